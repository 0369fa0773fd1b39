"""Geometry in the logs of any `Trainer`, whatever loss its model has."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Trainer, TrainerCallback

from hf_contrastive.distributed import gather_rows, world_size
from hf_contrastive.encoder import SUFFIX, named_embeds
from hf_contrastive.functional.checks import NonFiniteError
from hf_contrastive.training.measure import geometry_logs


def log_geometry(trainer: Trainer, *, modalities: Collection[str] | None = None) -> "GeometryCallback":
    """
    Let a [`~transformers.Trainer`] log the geometry and retrieval of the latest batch beside its training loss, under the
    names of the [`ContrastiveTrainer`], which does so by itself.

    Example:
    ```python
    trainer = Trainer(CLIPModel.from_pretrained("openai/clip-vit-base-patch32"), args, train_dataset=dataset)
    log_geometry(trainer)
    trainer.train()
    ```

    Args:
        trainer ([`~transformers.Trainer`]):
            Trainer of a model whose output holds `<modality>_embeds`, one row per example, as CLIP's and SigLIP's.
        modalities (`Collection[str]`, *optional*):
            Embeddings to measure. By default all.

    Returns:
        [`GeometryCallback`]: The callback, for `trainer.remove_callback`.
    """
    callback = GeometryCallback(modalities)
    # In front of the trackers' callbacks, which report what is in the logs by their turn; `add_callback` puts it behind.
    trainer.callback_handler.callbacks.insert(0, callback)
    return callback


class GeometryCallback(TrainerCallback):
    """
    Reads embeddings off the model's output and adds their geometry to training logs. [`log_geometry`] puts it in place.

    With several processes, all rows of the world's batch count, cut to equally many of each process. Evaluation is left to
    `compute_metrics`: `full_geometry_report` of its predictions has the same names. A batch that is not finite has no
    geometry in its logs, and a warning names its first bad row.

    Args:
        modalities (`Collection[str]`, *optional*):
            Embeddings to measure. By default all.
    """

    def __init__(self, modalities: Collection[str] | None = None) -> None:
        self.modalities = None if modalities is None else set(modalities)
        self._latest: dict[str, Tensor] = {}
        self._hook: RemovableHandle | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any) -> None:
        assert model is not None  # the Trainer always passes it
        self._remove()
        self._hook = model.register_forward_hook(self._read)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs or not self._latest:
            return
        embeds, self._latest = _of_all_processes(self._latest), {}
        if len(next(iter(embeds.values()))) > 1:
            try:
                found = geometry_logs(embeds)
            except NonFiniteError as error:
                # The Trainer goes on where a scaler skips the step, and so must what only looks on.
                warnings.warn(f"Step {state.global_step} has no geometry in its logs. {error}", stacklevel=2)
                return
            logs.update(found)
            # The Trainer has put a copy there.
            state.log_history[-1].update(found)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._latest = None, {}

    def _read(self, model: nn.Module, inputs: Any, output: Any) -> None:
        if not model.training:
            return
        named = output if isinstance(output, Mapping) else {}
        embeds = {m: x.detach() for m, x in named_embeds(named).items()}
        wanted = set(embeds) if self.modalities is None else self.modalities
        if not wanted or wanted - set(embeds):
            raise ValueError(
                f"Geometry is read from `<modality>{SUFFIX}` of the model's output, with one row per example, for "
                f"{sorted(wanted) or 'any modality'}, but {type(model).__name__} returned {list(named) or type(output)}."
            )
        self._latest = {m: embeds[m] for m in sorted(wanted)}


@torch.no_grad()
def _of_all_processes(embeds: dict[str, Tensor]) -> dict[str, Tensor]:
    if world_size() == 1:
        return embeds
    first = next(iter(embeds.values()))
    fewest = int(gather_rows(torch.tensor([len(first)], device=first.device)).min())
    return {m: gather_rows(x[:fewest]) for m, x in embeds.items()}
