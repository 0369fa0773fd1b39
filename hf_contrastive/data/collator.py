"""From raw examples to model inputs."""

import hashlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from hf_contrastive.data.images import is_plain
from hf_contrastive.data.modalities import IDS, Modality, as_tensors, blank_image, by_modality
from hf_contrastive.hard_negatives import input_name


# Inputs that are for the trainer and not for the model, like `IDS`.
PRESENT = "present_"
# What the processors of `transformers` call the input of each modality.
MODALITIES = {"images": "image", "text": "text", "videos": "video", "audio": "audio"}
# Options of a processor that are not for images.
TEXT_OPTIONS = {"padding", "truncation", "max_length", "pad_to_multiple_of", "add_special_tokens"}

Processor: TypeAlias = ProcessorMixin | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class ContrastiveCollator:
    """
    Data collator that runs processors on raw columns, so that images are resized in the data loader's workers.

    An example may lack a modality (`None`). The model then sees a blank one, which the trainer leaves out of all losses.
    All that leaves the collator are tensors with one row per example.

    Args:
        processor ([`~transformers.ProcessorMixin`] or `dict[str, Modality]`):
            Processor of the model, or a [`Modality`] by name for any number of modalities with a processor each; a pair
            of processor and column will do, and `None` as processor for precomputed embeddings.
        columns (`dict[str, str]`, *optional*, defaults to `{"images": "image", "text": "text"}`):
            Column to read for each argument of the processor, if there is one processor. By default a
            [`MultiEncoderProcessor`] reads, for each of its modalities, the column of that name.
        processor_kwargs (`dict`, *optional*):
            Further arguments of the processor, if there is one.
        id_column (`str`, *optional*):
            Column that tells what an example shows, integers or strings. Examples of one id are not each other's
            negatives, and positives to losses that take several, on all processes.
        hard_negatives (`dict[str, str]`, *optional*):
            Column of hard negatives by modality, with one value or a list. They are further negatives to the queries of
            the other modalities, on all processes, see [`ContrastiveBatch`].
        num_hard_negatives (`int`, *optional*, defaults to 1):
            Hard negatives to take of each list, the first ones. Every example must have so many.
        fast_images (`bool`, *optional*, defaults to `True`):
            Whether images take a faster way where that returns the same bits, see [`Modality`], each of which says so
            itself.

    Example:
    ```python
    ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    ContrastiveCollator(
        processor={
            "image": (image_processor, "photo"),
            "text": (tokenizer, "caption"),
            "audio": Modality(processor=feature_extractor, column="sound"),
            "product": (None, "product_embedding"),
        }
    )
    ```
    """

    processor: Processor | Mapping[str, Any]
    columns: Mapping[str, str] = field(default_factory=lambda: {"images": "image", "text": "text"})
    processor_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"padding": True, "truncation": True})
    id_column: str | None = None
    hard_negatives: Mapping[str, str] = field(default_factory=dict)
    num_hard_negatives: int = 1
    fast_images: bool = True

    def __post_init__(self) -> None:
        parts = by_modality(self.processor)
        if parts is not self.processor:
            object.__setattr__(self, "processor", self._with_columns(parts))
        if isinstance(self.processor, Mapping):
            given = {m: x if isinstance(x, Modality) else self._as_modality(m, x) for m, x in self.processor.items()}
            object.__setattr__(self, "processor", given)
            object.__setattr__(self, "columns", {m: x.column or m for m, x in given.items()})
        if unknown := sorted(set(self.hard_negatives) - {_name(argument) for argument in self.columns}):
            raise ValueError(
                f"`hard_negatives` must be of the modalities {[_name(a) for a in self.columns]}, but got {unknown}."
            )
        if self.num_hard_negatives < 1:
            raise ValueError(f"`num_hard_negatives` must be at least 1, but got {self.num_hard_negatives}.")

    @classmethod
    def for_model(cls, model: PreTrainedModel, processor: ProcessorMixin, **kwargs: Any) -> "ContrastiveCollator":
        """A collator that pads as `model` was trained: SigLIP reads all positions, others mask the padding."""
        if model.config.model_type.startswith("siglip"):
            length = model.config.text_config.max_position_embeddings
            defaults = {"padding": "max_length", "truncation": True, "max_length": length}
            kwargs["processor_kwargs"] = defaults | dict(kwargs.get("processor_kwargs", {}))
        return cls(processor=processor, **kwargs)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Model inputs of the examples, tensors with one row per example."""
        if not examples:
            raise ValueError("The collator got a batch without examples.")
        ids = [] if self.id_column is None else [self.id_column]
        for column in [*self.columns.values(), *self.hard_negatives.values(), *ids]:
            if column not in examples[0]:
                raise ValueError(f"The collator reads column {column!r}, but the examples have {sorted(examples[0])}.")
        raw = {argument: [example[column] for example in examples] for argument, column in self.columns.items()}
        present = {a: torch.tensor([value is not None for value in values]) for a, values in raw.items()}
        self._refuse_alone(torch.stack(list(present.values())))
        hard = {a: self._hard_negatives(a, examples) for a in raw if _name(a) in self.hard_negatives}
        inputs = self._inputs(raw, hard)
        # Of three and more at every step: loaders that join the batches of processes want the same keys in all.
        if len(present) > 2:
            inputs |= {f"{PRESENT}{_name(argument)}": mask for argument, mask in present.items()}
        # By their own name, ids come from a dataset that knows that examples show the same.
        id_column = IDS if self.id_column is None and IDS in examples[0] else self.id_column
        if id_column is not None:
            inputs[IDS] = torch.tensor([_as_integer(example[id_column]) for example in examples])
        return inputs

    def _inputs(self, raw: dict[str, list[Any]], hard: dict[str, list[Any]]) -> dict[str, Tensor]:
        rows = len(next(iter(raw.values())))
        alone = {argument: self._modality(argument) for argument in raw}
        inputs: dict[str, Tensor] = {}
        for argument, modality in alone.items():
            if modality is None and argument not in hard:
                continue
            # With hard negatives in one call, for one padding.
            values = raw[argument] + hard.get(argument, [])
            found = self._process({argument: values}) if modality is None else modality.inputs(_name(argument), values)
            if taken := sorted(set(found) & set(inputs)):
                raise ValueError(
                    f"Two modalities bring {taken}, {argument!r} the later one. Give one of them other names with `rename` of "
                    "its `Modality`, those of the model's forward."
                )
            inputs |= {name: x[:rows] for name, x in found.items()}
            if argument in hard:
                further = {name: x[rows:].reshape(rows, -1, *x.shape[1:]) for name, x in found.items()}
                inputs |= {input_name(_name(argument), name): x for name, x in further.items()}
        rest = {argument: raw[argument] for argument in raw if alone[argument] is None and argument not in hard}
        return inputs | (self._process(rest) if rest else {})

    def _process(self, raw: Mapping[str, list[Any]]) -> dict[str, Tensor]:
        """What the one processor of all modalities makes of some."""
        raw = {argument: _with_blanks(argument, values) for argument, values in raw.items()}
        found = self.processor(**raw, **self.processor_kwargs, return_tensors="pt")  # type: ignore[operator]
        return as_tensors(dict(found), len(next(iter(raw.values()))))

    def _modality(self, argument: str) -> Modality | None:
        """How a modality is processed on its own, or `None` where the one processor must do it."""
        if isinstance(self.processor, Mapping):
            return self.processor[argument]
        # One that does nothing of its own hands images and sounds to processors that it holds.
        if (
            not isinstance(self.processor, ProcessorMixin)
            or type(self.processor).__call__ is not ProcessorMixin.__call__
        ):
            return None
        if not set(self.processor_kwargs) <= TEXT_OPTIONS:
            return None
        images, sounds = (getattr(self.processor, name, None) for name in ("image_processor", "feature_extractor"))
        if argument == "images" and self.fast_images and is_plain(images):
            return Modality(processor=images)
        if argument == "audio" and hasattr(sounds, "sampling_rate"):
            return Modality(processor=sounds)
        return None

    def _with_columns(self, parts: Mapping[str, Modality]) -> dict[str, Modality]:
        """The modalities of one processor, those of `columns` if it is not the default one."""
        columns = {_name(argument): column for argument, column in self.columns.items()}
        if dict(self.columns) == {"images": "image", "text": "text"}:
            columns = {name: part.column or name for name, part in parts.items()}
        if unknown := sorted(set(columns) - set(parts)):
            raise ValueError(f"`columns` are for {unknown}, but the processor has the modalities {sorted(parts)}.")
        return {m: replace(parts[m], column=c, fast=self.fast_images) for m, c in columns.items()}

    def _as_modality(self, name: str, given: Any) -> Modality:
        if not isinstance(given, tuple) or len(given) != 2:
            raise ValueError(
                f"`processor` of {name!r} must be a Modality or a pair of processor and column, but got {given!r}."
            )
        return Modality(processor=given[0], column=given[1], fast=self.fast_images)

    def _hard_negatives(self, argument: str, examples: list[dict[str, Any]]) -> list[Any]:
        """The hard negatives of the first example, then those of the second, ..."""
        column, k = self.hard_negatives[_name(argument)], self.num_hard_negatives
        lists = [x if isinstance(x := example[column], list | tuple) else [x] for example in examples]
        for row, values in enumerate(lists):
            if (found := sum(value is not None for value in values[:k])) < k:
                raise ValueError(f"Example {row} of a batch has {found} hard negatives in {column!r}, but needs {k}.")
        return list(chain.from_iterable(values[:k] for values in lists))

    def _refuse_alone(self, present: Bool[Tensor, "S b"]) -> None:
        needed = min(2, len(present))
        alone = present.sum(dim=0) < needed
        if alone.any():
            raise ValueError(
                f"Example {int(alone.nonzero()[0, 0])} of a batch has fewer than {'two' if needed == 2 else 'one'} of the columns "
                f"{list(self.columns.values())}, so there is nothing to compare ({int(alone.sum())} such examples in it). "
                "Drop them from the dataset."
            )


def _name(argument: str) -> str:
    return MODALITIES.get(argument, argument)


def _with_blanks(argument: str, values: list[Any]) -> list[Any]:
    """The values, with something for the processor to chew in place of each None."""
    if all(value is not None for value in values):
        return values
    if argument not in ("images", "text"):
        raise ValueError(
            f"Examples lack their {argument!r}. One processor of all modalities can do without images and texts only: "
            "give the collator a processor by modality, or drop the examples."
        )
    return [(blank_image() if argument == "images" else "") if value is None else value for value in values]


def _as_integer(value: Any) -> int:
    """An id of 64 bits, the same on every process and in every run."""
    if isinstance(value, str):
        return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big") >> 1
    try:
        # NumPy's and PyTorch's integers too, as in a dataset in their format.
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"The ids of examples must be integers or strings, but one is {value!r}.")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"The ids of examples must fit 64 bits, but one is {number}. Write it as a string.")
    return number
