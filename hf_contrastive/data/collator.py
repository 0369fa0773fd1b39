"""From raw examples to model inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin


@dataclass(frozen=True, kw_only=True)
class ContrastiveCollator:
    """
    Data collator that runs a processor on raw columns, so that images are resized in the data loader's workers.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of the model.
        columns (`dict[str, str]`, *optional*, defaults to `{"images": "image", "text": "text"}`):
            Column to read for each argument of the processor.
        processor_kwargs (`dict`, *optional*):
            Further arguments of the processor.

    Example:
    ```python
    ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    ```
    """

    processor: ProcessorMixin
    columns: Mapping[str, str] = field(default_factory=lambda: {"images": "image", "text": "text"})
    processor_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"padding": True, "truncation": True})

    @classmethod
    def for_model(cls, model: PreTrainedModel, processor: ProcessorMixin, **kwargs: Any) -> "ContrastiveCollator":
        """A collator that pads as `model` was trained: SigLIP reads all positions, others mask the padding."""
        if model.config.model_type.startswith("siglip"):
            length = model.config.text_config.max_position_embeddings
            kwargs["processor_kwargs"] = {"padding": "max_length", "truncation": True, "max_length": length}
        return cls(processor=processor, **kwargs)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Model inputs of the examples, tensors with one row per example."""
        for column in self.columns.values():
            if column not in examples[0]:
                raise ValueError(f"The collator reads column {column!r}, but the examples have {sorted(examples[0])}.")
        raw = {argument: [example[column] for example in examples] for argument, column in self.columns.items()}
        return dict(self.processor(**raw, **self.processor_kwargs, return_tensors="pt"))
