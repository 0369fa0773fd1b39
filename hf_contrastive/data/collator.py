"""From raw examples to model inputs."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from PIL import Image as PILImage
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin


# Inputs that are for the trainer and not for the model.
IDS = "example_ids"
PRESENT = "present_"
# What the processors of `transformers` call the input of each modality.
MODALITIES = {"images": "image", "text": "text", "videos": "video", "audio": "audio"}


@dataclass(frozen=True, kw_only=True)
class ContrastiveCollator:
    """
    Data collator that runs a processor on raw columns, so that images are resized in the data loader's workers.

    An example may lack an image or a text (`None`). The model then sees a blank one, which the trainer leaves out of all
    losses.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of the model.
        columns (`dict[str, str]`, *optional*, defaults to `{"images": "image", "text": "text"}`):
            Column to read for each argument of the processor.
        processor_kwargs (`dict`, *optional*):
            Further arguments of the processor.
        id_column (`str`, *optional*):
            Column that tells what an example shows, integers or strings. Examples of one id are not each other's
            negatives, and positives to losses that take several, on all processes.

    Example:
    ```python
    ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    ```
    """

    processor: ProcessorMixin | Callable[..., Any]
    columns: Mapping[str, str] = field(default_factory=lambda: {"images": "image", "text": "text"})
    processor_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"padding": True, "truncation": True})
    id_column: str | None = None

    @classmethod
    def for_model(cls, model: PreTrainedModel, processor: ProcessorMixin, **kwargs: Any) -> "ContrastiveCollator":
        """A collator that pads as `model` was trained: SigLIP reads all positions, others mask the padding."""
        if model.config.model_type.startswith("siglip"):
            length = model.config.text_config.max_position_embeddings
            kwargs["processor_kwargs"] = {"padding": "max_length", "truncation": True, "max_length": length}
        return cls(processor=processor, **kwargs)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Model inputs of the examples, tensors with one row per example."""
        for column in [*self.columns.values(), *([] if self.id_column is None else [self.id_column])]:
            if column not in examples[0]:
                raise ValueError(f"The collator reads column {column!r}, but the examples have {sorted(examples[0])}.")
        raw = {argument: [example[column] for example in examples] for argument, column in self.columns.items()}
        present = {a: torch.tensor([value is not None for value in values]) for a, values in raw.items()}
        self._refuse_alone(torch.stack(list(present.values())))
        raw = {argument: _with_blanks(argument, values) for argument, values in raw.items()}
        inputs = dict(self.processor(**raw, **self.processor_kwargs, return_tensors="pt"))
        # Of three and more at every step: loaders that join the batches of processes want the same keys in all.
        if len(present) > 2:
            inputs |= {f"{PRESENT}{MODALITIES.get(argument, argument)}": mask for argument, mask in present.items()}
        if self.id_column is not None:
            inputs[IDS] = torch.tensor([_as_integer(example[self.id_column]) for example in examples])
        return inputs

    def _refuse_alone(self, present: Bool[Tensor, "S b"]) -> None:
        alone = present.sum(dim=0) < 2
        if len(present) > 1 and alone.any():
            raise ValueError(
                f"Example {int(alone.nonzero()[0, 0])} of a batch has fewer than two of the columns "
                f"{list(self.columns.values())}, so there is nothing to compare ({int(alone.sum())} such examples in it). "
                "Drop them from the dataset."
            )


def _with_blanks(argument: str, values: list[Any]) -> list[Any]:
    """The values, with something for the processor to chew in place of each None."""
    if all(value is not None for value in values):
        return values
    if argument not in ("images", "text"):
        raise ValueError(f"Examples lack their {argument!r}, and only images and texts may be missing. Drop them.")
    blank: Any = PILImage.new("RGB", (32, 32)) if argument == "images" else ""
    return [blank if value is None else value for value in values]


def _as_integer(value: Any) -> int:
    """An id of 63 bits, the same on every process and in every run."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"The ids of examples must be integers or strings, but one is {value!r}.")
    if isinstance(value, int):
        return value
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big") >> 1
