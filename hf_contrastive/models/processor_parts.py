"""What belongs to the processor of one modality: its kind, its files, its options."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from hf_contrastive.models.peculiarities import peculiarities_of


# Which files a processor of each kind writes: of each, one fits the root of a folder.
_FILES = {"text": "tokenizer", "image": "preprocessor", "audio": "preprocessor"}


def places(kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """For each modality with a processor, where in the folder its files are: in the root or in one called after it."""
    taken = set()
    for name in sorted(kinds):
        if kinds[name] == "embedding":
            continue
        if kinds[name] not in _FILES:
            raise ValueError(
                f"The modality {name!r} must be of a kind of {sorted(_FILES)}, but it is {kinds[name]!r}."
            )
        files = _FILES[kinds[name]]
        yield name, name if files in taken else ""
        taken.add(files)


def kind_of(reads: Sequence[str]) -> str:
    """What the values of a modality are, whose tower reads these inputs."""
    if "input_ids" in reads:
        return "text"
    return "image" if any(name.startswith("pixel_values") for name in reads) else "audio"


def default_options(
    name: str, processor: Any, encoder: Any, reads: Sequence[str], pooling: str
) -> dict[str, Any] | None:
    """
    Arguments of a processor with which its tower reads what it was trained with, whatever else is in a batch.

    Args:
        name: The modality, for messages.
        processor: Its tokenizer, image processor or feature extractor.
        encoder: Its encoder.
        reads: Inputs that this takes.
        pooling: How its tokens are pooled.

    Raises:
        ValueError: A tokenizer cannot pad.
    """
    if "input_ids" in reads:
        return _text_options(name, processor, encoder, reads)
    if any(name.startswith("pixel_values") for name in reads):
        # Grey and transparent pictures, for processors that take them as they are.
        rgb = getattr(encoder.config, "num_channels", 3) == 3 and not getattr(processor, "do_convert_rgb", True)
        return {"do_convert_rgb": True} if rgb else None
    takes_mask = "return_attention_mask" in inspect.signature(processor.__call__).parameters
    if "attention_mask" in reads and takes_mask and pooling in ("mean", "attention"):
        # Whisper and others read sounds without a mask, but their silence after the end is not to be pooled.
        return {"return_attention_mask": True}
    return None


def _text_options(name: str, tokenizer: Any, encoder: Any, reads: Sequence[str]) -> dict[str, Any]:
    if tokenizer.pad_token is None:
        raise ValueError(
            f"The tokenizer of {name!r} has no `pad_token`, so texts of several lengths make no batch. Padding is masked, "
            "and any token does: `tokenizer.pad_token = tokenizer.eos_token`."
        )
    options: dict[str, Any] = {"padding": True, "truncation": True}
    longest = longest_text(encoder)
    if peculiarities_of(encoder.config).is_padded:
        options |= {"padding": "max_length", "max_length": longest, "return_attention_mask": False}
    elif longest is not None and tokenizer.model_max_length > longest:
        options["max_length"] = longest
    if tokenizer.padding_side != "right":
        # Towers that number positions from the left of a batch would see a text elsewhere beside a longer one.
        options["padding_side"] = "right"
    return options if "token_type_ids" in reads else options | {"return_token_type_ids": False}


def longest_text(encoder: Any) -> int | None:
    """Most tokens that an encoder has positions for, or None where it has no bound."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]:
            # RoBERTa and the like leave out the positions up to that of padding, BART and OPT the first two.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - max(unused, getattr(module, "offset", 0))
    longest: int | None = getattr(encoder.config, "max_position_embeddings", None)
    return longest


def as_list(kind: str | None, given: Any) -> list[Any]:
    """Values of a kind as a list: a single text, picture, sound or vector is a batch of one."""
    if isinstance(given, (np.ndarray, Tensor)):
        dimensions = {"image": 3, "embedding": 1, "audio": 1}.get(kind or "", 0)
        return [given] if given.ndim <= dimensions else list(given)
    is_one = isinstance(given, (str, bytes, Mapping)) or not hasattr(given, "__len__")
    is_vector = kind == "embedding" and not is_one and len(given) > 0 and np.ndim(given[0]) == 0
    return [given] if is_one or is_vector else list(given)
