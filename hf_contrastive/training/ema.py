"""An exponential moving average of what is trained: kept, saved, evaluated and handed out as the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

from hf_contrastive.sharded_parameters import cut_like, joined, local_part, reshard, vectors_to_scalars


EMA_FILE = "ema.safetensors"


class EMA(TrainerCallback):
    """
    Average `decay * average + (1 - decay) * value` of trainable parameters and buffers after each optimizer step.

    Averages start at the values that training starts from and are in single precision, whatever the model is in. Buffers
    that are not of floating point are copied. Steps that are not taken do not count. Of parameters that FSDP2 has cut,
    each process averages its part; files hold them whole.

    Args:
        decay (`float`):
            Share of the old average that is kept at each step, from 0 to below 1.
        replace_model (`bool`, *optional*, defaults to `False`):
            Whether the averages become the model's weights when training ends.
        is_skipped (`Callable[[], bool]`, *optional*):
            Whether the present step was not taken. By default all are.
        scalars (`list[str]`, *optional*):
            Parameters of shape (1,) that have shape () in files, see [`scalars_to_vectors`].
    """

    def __init__(
        self,
        decay: float,
        *,
        replace_model: bool = False,
        is_skipped: Callable[[], bool] = lambda: False,
        scalars: Sequence[str] = (),
    ) -> None:
        self.decay, self.replace_model, self.is_skipped, self.scalars = decay, replace_model, is_skipped, list(scalars)
        self.averages: dict[str, Tensor] = {}
        self._update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._resumed = self._swapped = False

    # ---- Training ----

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if not self._resumed:
            self.averages = {}
        self._resumed = False

    def on_step_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        # Not when training begins: other callbacks may set values there.
        if not self.averages:
            self.averages = {name: _copy(value) for name, value in averaged_tensors(model).items()}

    @torch.no_grad()
    def on_step_end(self, *_: Any, model: nn.Module, optimizer: Any = None, **__: Any) -> None:
        """Update the averages: after callbacks that change parameters in `on_optimizer_step`, before any evaluation."""
        if getattr(optimizer, "step_was_skipped", False) or self.is_skipped():
            return
        values = averaged_tensors(model)
        floating = [name for name, value in values.items() if value.is_floating_point()]
        mine = [local_part(self.averages[name]) for name in floating]
        self._update(mine, [local_part(values[name].detach()).float() for name in floating], 0)
        for name in values.keys() - set(floating):
            self.averages[name].copy_(values[name])

    def on_train_end(self, *_: Any, model: nn.Module, **__: Any) -> None:
        if self.replace_model and self.averages:
            self.copy_to(model)

    # ---- Use ----

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Inside this context the model has the averages for its weights; after it, exactly those that it had.

        Before the first step there are no averages and nothing changes.
        """
        if self._swapped or not self.averages:
            yield
            return
        kept = {name: value.detach().clone() for name, value in averaged_tensors(model).items()}
        self.copy_to(model)
        self._swapped = True
        try:
            yield
        finally:
            self._swapped = False
            _assign(model, kept)

    def copy_to(self, model: nn.Module) -> None:
        """Make the averages the model's weights."""
        if dist.is_available() and dist.is_initialized():
            # Parameters are alike on all processes, buffers need not be: DDP takes those of the first.
            parameters = {name for name, _ in model.named_parameters()}
            for name in sorted(self.averages.keys() - parameters):
                dist.broadcast(self.averages[name], src=0)
        _assign(model, self.averages)

    # ---- Checkpoints ----

    def save(self, file: Path, *, write: bool = True) -> None:
        """Write the averages to a file. Every process must call it, to join their parts, of which one should `write`."""
        found = {}
        for name, value in self.averages.items():
            # One at a time: the model may be larger than what one accelerator holds.
            whole = joined(value)
            if write:
                found[name] = whole.cpu().contiguous()
        if write:
            save_file(vectors_to_scalars(found, self.scalars), file)

    def load(self, file: Path, model: nn.Module, *, resume: bool = True) -> None:
        """
        Read the averages of a model from a file, for a run that goes on with them unless `resume` is false.

        Raises:
            ValueError: The file has other parameters than those that the model trains, or of other shapes.
        """
        found, wanted = load_file(file), averaged_tensors(model)
        found |= {
            name: found[name].reshape(wanted[name].shape) for name in self.scalars if name in found.keys() & wanted
        }
        shapes = {name: value.shape for name, value in wanted.items()}
        if different := sorted(
            name for name in found.keys() | shapes.keys() if name not in found or found[name].shape != shapes.get(name)
        ):
            raise ValueError(
                f"{file} holds averages of other parameters than those that are trained: {different[:3]} differ "
                f"({len(different)} in all). Resume with the towers frozen as before."
            )
        self.averages = {name: cut_like(value, wanted[name]) for name, value in found.items()}
        self._resumed = resume


def averaged_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and saved buffers of a model, by name. Those that FSDP2 has cut are in parts."""
    reshard(model)
    tensors: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                tensors[f"{prefix}.{name}" if prefix else name] = buffer
    return tensors


def _copy(value: Tensor) -> Tensor:
    value = value.detach().clone()
    return value.float() if value.is_floating_point() else value


@torch.no_grad()
def _assign(model: nn.Module, values: dict[str, Tensor]) -> None:
    tensors = averaged_tensors(model)
    for name, value in values.items():
        tensors[name].copy_(value)
