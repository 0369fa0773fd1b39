"""Embed raw values of one modality with a Hugging Face model and its processor, on all processes together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_contrastive.data import ContrastiveCollator
from hf_contrastive.data.collator import MODALITIES
from hf_contrastive.data.modalities import by_modality
from hf_contrastive.distributed import rank, world_size
from hf_contrastive.encoder import SUFFIX, replaced_forward
from hf_contrastive.evaluators.store import EmbeddingStore, on_every_process


# What the processors of `transformers` call the input of each modality.
ARGUMENTS = {modality: argument for argument, modality in MODALITIES.items()}


class ModelEncoder:
    """
    Unit embeddings of texts, pictures and sounds, made by a model's `get_<modality>_features`.

    Example:
    ```python
    encode = ModelEncoder(model, processor)
    encode("text", ["a photo of a cat", "a photo of a dog"])  # shape (2, width)
    ```

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model with `get_text_features` and the like, or one whose forward returns `<modality>_embeds` from the inputs
            of one modality.
        processor ([`~transformers.ProcessorMixin`]):
            Turns raw values into model inputs.
        processor_kwargs (`dict`, *optional*):
            Further arguments of the processor. By default those that [`ContrastiveCollator`] would use for the model.
        batch_size (`int`, *optional*, defaults to 64):
            Values that are embedded at a time.
        device (`torch.device`, *optional*):
            Where inputs go. By default that of the model.
        wrapped (`torch.nn.Module`, *optional*):
            A wrapper around the model to call instead, as FSDP needs.
        context (`Callable`, *optional*):
            Makes a context for the forward pass, for instance autocast.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a bar.
        normalize (`bool`, *optional*, defaults to `True`):
            Whether to scale embeddings to unit length. If not, they have the lengths that the model gives them.
        many_processes (`bool`, *optional*, defaults to `False`):
            Whether every process of the group calls the encoder with the same values. Each then embeds a share.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        processor_kwargs: Mapping[str, Any] | None = None,
        batch_size: int = 64,
        device: torch.device | str | None = None,
        wrapped: nn.Module | None = None,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        progress: bool = False,
        normalize: bool = True,
        many_processes: bool = False,
    ) -> None:
        if processor is None:
            raise ValueError(
                "Evaluators embed raw texts and pictures and need a processor. Pass it to the trainer as "
                "`processing_class`, or use a `ContrastiveCollator`."
            )
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, but got {batch_size}.")
        processor = by_modality(processor)
        if processor_kwargs is None and not isinstance(processor, Mapping):
            processor_kwargs = ContrastiveCollator.for_model(model, processor).processor_kwargs
        if isinstance(processor, Mapping):
            processor = ContrastiveCollator(processor=processor).processor
        self.model, self.processor, self.processor_kwargs = model, processor, processor_kwargs or {}
        self.wrapped = model if wrapped is None else wrapped
        self.batch_size, self.device = batch_size, model.device if device is None else device
        self.context, self.progress, self.many_processes = context, progress, many_processes
        self.normalize = normalize

    @torch.no_grad()
    def __call__(self, modality: str, values: Sequence[Any]) -> Float[Tensor, "n d"]:
        """Unit embeddings on the CPU, row i that of value i, the same on every process."""
        if len(values) == 0:
            raise ValueError(f"There is no {modality} to embed: `values` is empty.")
        store = EmbeddingStore(len(values), many_processes=self.many_processes)
        training = self.model.training
        self.model.eval()
        try:
            if self.many_processes:
                on_every_process(lambda: self._fill(store, modality, values))
            else:
                self._fill(store, modality, values)
        finally:
            self.model.train(training)
        stored = store.join(self.device)
        assert stored is not None
        return stored.embeds[modality]

    def _fill(self, store: EmbeddingStore, modality: str, values: Sequence[Any]) -> None:
        place, processes = (rank(), world_size()) if self.many_processes else (0, 1)
        starts = range(0, len(values), self.batch_size)
        # As many batches on every process, since a sharded model must be called as often; repeated rows count once.
        rounds = range(0, len(starts), processes)
        hidden = not self.progress or place != 0
        for first in tqdm(rounds, desc=f"embedding {modality}", leave=False, disable=hidden):
            start = starts[(first + place) % len(starts)]
            part = list(values[start : start + self.batch_size])
            store.add(start + torch.arange(len(part)), {modality: self._embed(modality, part)})

    def _embed(self, modality: str, values: list[Any]) -> Tensor:
        if isinstance(self.processor, Mapping):
            if modality not in self.processor:
                raise ValueError(f"The collator has processors of {sorted(self.processor)}, but none of {modality!r}.")
            inputs = self.processor[modality].inputs(modality, values)
        else:
            arguments = {ARGUMENTS.get(modality, modality): values}
            inputs = self.processor(**arguments, **self.processor_kwargs, return_tensors="pt")
        inputs = {name: x.to(self.device) for name, x in inputs.items()}
        with self.context(), _tower_forward(self.model, modality):
            x = self.wrapped(**inputs)
        if not isinstance(x, Tensor) or x.dim() != 2 or len(x) != len(values):
            got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"The {modality} features of {len(values)} values must have shape (values, width), not {got}."
            )
        # At least single precision, as in training.
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.normalize(x, dim=1) if self.normalize else x


@contextmanager
def _tower_forward(model: Any, modality: str) -> Iterator[None]:
    """Inside this context, calling `model`, or a wrapper around it, returns the features of one modality."""
    tower = getattr(model, f"get_{modality}_features", None)
    native_forward = model.forward

    def forward(**inputs: Any) -> Any:
        if tower is not None:
            features = tower(**inputs)
            return getattr(features, "pooler_output", features)
        output = native_forward(**inputs)
        if (embeds := output.get(f"{modality}{SUFFIX}")) is None:
            raise ValueError(
                f"{type(model).__name__} has no `get_{modality}_features`, and its forward returned {list(output)} "
                f"without `{modality}{SUFFIX}`, so an evaluator cannot embed {modality!r}."
            )
        return embeds

    with replaced_forward(model, forward):
        yield
