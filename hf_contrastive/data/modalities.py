"""One modality of an example: how its raw values become inputs of its tower."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from transformers import BaseImageProcessor, FeatureExtractionMixin, PreTrainedTokenizerBase

from hf_contrastive.data import images as fast


# What a dataset and the collator call the ids of examples and the numbers of their rows, for the trainer.
IDS, ROWS = "example_ids", "row_numbers"
# Names the dataset of a mix that a row is from. The trainer takes it out of a batch.
DATASET_NAME = "dataset_name"
# "image", "text", "audio" or "embedding".
Kind: TypeAlias = str


@dataclass(frozen=True, kw_only=True)
class Modality:
    """
    Where the values of a modality are and what turns them into tensors.

    Args:
        processor (*optional*):
            Image processor, tokenizer or feature extractor. By default none: the column holds precomputed embeddings.
        column (`str`, *optional*):
            Column of the values. By default the name of the modality.
        kind (`str`, *optional*):
            What the values are, one of `"image"`, `"text"`, `"audio"` and `"embedding"`. By default what the processor
            is for.
        transform (`Callable`, *optional*):
            Applied to each value before the processor: an augmentation, for example. Two modalities that read one
            column with a transform each are two views of it.
        options (`dict`, *optional*):
            Further arguments of the processor. By default texts are padded to the longest and truncated, sounds padded.
        rename (`dict[str, str]`, *optional*):
            What the model's forward calls the processor's outputs, for those it calls otherwise. Embeddings are
            `<modality>_features`, to be renamed from `features`.
        width (`int`, *optional*):
            Width of precomputed embeddings. By default that of the first in each batch.
        fast (`bool`, *optional*, defaults to `True`):
            Whether image processors that only resize, crop, rescale and normalize with PIL, as those of CLIP and SigLIP
            do without torchvision, are replaced by code that returns the same bits in less time.

    Raises:
        ValueError: The kind is unknown, or cannot be told from the processor.
    """

    processor: Any = None
    column: str | None = None
    kind: Kind | None = None
    transform: Callable[[Any], Any] | None = None
    options: Mapping[str, Any] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    width: int | None = None
    fast: bool = True

    def __post_init__(self) -> None:
        kinds = ("image", "text", "audio", "embedding")
        if self.kind is None:
            object.__setattr__(self, "kind", _kind_for(self.processor))
        if self.kind not in kinds:
            raise ValueError(f"`kind` must be one of {', '.join(kinds)}, but got {self.kind!r}.")
        if (self.kind == "embedding") != (self.processor is None):
            raise ValueError(f"Values of kind {self.kind!r} cannot have the `processor` {self.processor!r}.")

    def inputs(self, name: str, values: Sequence[Any]) -> dict[str, Tensor]:
        """
        Inputs of the tower, tensors with one row per value.

        Args:
            name (`str`):
                Name of the modality, for messages and embeddings.
            values (`list`):
                Raw values. `None` becomes a blank one.

        Raises:
            ValueError: A value cannot be used; the message names its place in the batch.
        """
        values = [None if value is None else self._checked(name, row, value) for row, value in enumerate(values)]
        if self.kind == "embedding":
            return {self.rename.get("features", f"{name}_features"): self._stacked(name, values)}
        options: Mapping[str, Any]
        found: Mapping[str, Any]
        if self.kind == "audio":
            silence = np.zeros(
                max((len(value) for value in values if value is not None), default=self.sampling_rate(name))
            )
            values = [silence.astype(np.float32) if value is None else value for value in values]
            options = {**_padding(self.processor), "sampling_rate": self.sampling_rate(name), **(self.options or {})}
            found = self.processor(values, return_tensors="pt", **options)
        elif self.kind == "image":
            values = [blank_image() if value is None else value for value in values]
            found = image_inputs(self.processor, values, self.options or {}, fast_images=self.fast)
        else:
            options = {"padding": True, "truncation": True} if self.options is None else self.options
            found = self.processor(
                ["" if value is None else value for value in values], return_tensors="pt", **options
            )
        return {self.rename.get(key, key): x for key, x in as_tensors(found, len(values)).items()}

    def _checked(self, name: str, row: int, value: Any) -> Any:
        """A value as its processor takes it, after the transform."""
        if self.kind == "audio":
            value = self._waveform(name, row, value)
        value = value if self.transform is None else self.transform(value)
        if self.kind == "embedding":
            value = torch.as_tensor(value, dtype=torch.float32)
        if (problem := problem_of(self.kind, value)) is not None:
            raise ValueError(f"Example {row} of a batch has {problem} as its {name!r}.")
        return value

    def _waveform(self, name: str, row: int, value: Any) -> Any:
        try:
            array, rate = value["array"], int(value["sampling_rate"])
        except (TypeError, IndexError, KeyError) as error:
            raise ValueError(
                f"Example {row} of a batch has a {type(value).__name__} as its {name!r}, but sounds must have an `array` "
                "and a `sampling_rate`, as those of `datasets.Audio`."
            ) from error
        if rate != self.sampling_rate(name):
            raise ValueError(
                f"Example {row} of a batch has a {name!r} of {rate} samples a second, but its processor wants "
                f"{self.sampling_rate(name)}. Resample the column: "
                f"`dataset.cast_column(..., Audio(sampling_rate={self.sampling_rate(name)}))`."
            )
        return np.asarray(array, dtype=np.float32)

    def sampling_rate(self, name: str) -> int:
        """Samples a second that the processor of sounds wants; `name` is the modality's."""
        rate = getattr(self.processor, "sampling_rate", None)
        rate = (
            getattr(getattr(self.processor, "feature_extractor", None), "sampling_rate", None)
            if rate is None
            else rate
        )
        if rate is None:
            raise ValueError(
                f"The `processor` of {name!r} has no `sampling_rate`, so sounds of a wrong one would pass."
            )
        return int(rate)

    def _stacked(self, name: str, values: Sequence[Tensor | None]) -> Tensor:
        width = self.width or next((len(value) for value in values if value is not None), None)
        if width is None:
            raise ValueError(f"No example of a batch has a {name!r}: say how wide they are with `width`.")
        for row, value in enumerate(values):
            if value is not None and len(value) != width:
                raise ValueError(f"Example {row} of a batch has a {name!r} of width {len(value)}, others of {width}.")
        return torch.stack([torch.zeros(width) if value is None else value for value in values])


def by_modality(processor: Any) -> Any:
    """The [`Modality`] objects of a processor that is made of some, as [`MultiEncoderProcessor`]; else the processor."""
    found = getattr(processor, "modalities", None)
    is_made_of_some = isinstance(found, Mapping) and all(isinstance(x, Modality) for x in found.values())
    return found if is_made_of_some else processor


def problem_of(kind: str | None, value: Any) -> str | None:
    """What makes a value unfit for training, if anything does."""
    if kind == "text" and not (isinstance(value, str) and value.strip()):
        return "an empty text" if isinstance(value, str) else f"a {type(value).__name__} instead of a text"
    if kind == "image" and isinstance(value, PILImage.Image) and not all(value.size):
        return "an empty image"
    if kind == "image" and isinstance(value, (np.ndarray, Tensor)) and value.ndim < 3:
        return f"an array of shape {list(value.shape)} instead of a picture"
    if kind not in ("audio", "embedding"):
        return None
    numbers, what = np.asarray(value, dtype=np.float32), "a sound" if kind == "audio" else "an embedding"
    if numbers.ndim != 1:
        return f"{what} of shape {list(numbers.shape)} instead of one row of numbers"
    if numbers.size == 0:
        return f"{what} without any numbers"
    if not np.isfinite(numbers).all():
        return f"{what} with NaN or infinity"
    return None if numbers.any() else f"{what} of nothing but zeros"


def blank_image() -> PILImage.Image:
    """What a processor chews in place of an image that is not there."""
    return PILImage.new("RGB", (32, 32))


def image_inputs(
    processor: Any, images: Sequence[Any], options: Mapping[str, Any], *, fast_images: bool
) -> Mapping[str, Any]:
    """What an image processor makes of images, by the fast way where that returns the same."""
    if fast_images and not options and fast.is_plain(processor) and all(isinstance(x, PILImage.Image) for x in images):
        values = fast.pixel_values(processor, images)
        if values is not None:
            return {"pixel_values": values}
    found: Mapping[str, Any] = processor(list(images), return_tensors="pt", **options)
    return found


def as_tensors(found: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
    """The outputs of a processor, which must be tensors with one row per example."""
    wrong = {
        name: list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        for name, x in found.items()
        if not isinstance(x, Tensor) or x.dim() == 0 or len(x) != rows
    }
    if wrong:
        raise ValueError(
            f"Processors must return tensors with one row for each of {rows} examples, but returned {wrong}. Loaders "
            "cannot share anything else among processes."
        )
    return dict(found)


def _kind_for(processor: Any) -> Kind:
    if processor is None:
        return "embedding"
    if isinstance(processor, PreTrainedTokenizerBase):
        return "text"
    if isinstance(processor, BaseImageProcessor):
        return "image"
    if isinstance(processor, FeatureExtractionMixin) and hasattr(processor, "sampling_rate"):
        return "audio"
    raise ValueError(
        f"Cannot tell what a {type(processor).__name__} is for. Say so with `kind`: image, text or audio. One processor "
        "of several modalities is given alone, not by modality."
    )


def _padding(extractor: Any) -> dict[str, bool]:
    """Padding for a feature extractor that does none by itself. Others, such as CLAP's and Whisper's, know what their
    model was trained with.
    """
    wanted = inspect.signature(extractor.__call__).parameters.get("padding")
    own = hasattr(extractor, "padding") or wanted is None or wanted.default not in (False, None)
    return {} if own else {"padding": True}
