"""What belongs to one modality of a processor: its kind, its files, its options."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

# Not from `transformers`, see processor.py.
from transformers.models.auto.feature_extraction_auto import AutoFeatureExtractor
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.tokenization_auto import AutoTokenizer

from hf_contrastive.models.peculiarities import peculiarities_of


LOADERS = {"text": AutoTokenizer, "image": AutoImageProcessor, "audio": AutoFeatureExtractor}
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


def modality_for(
    model: Any, name: str, processors: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]
) -> Any:
    """The [`Modality`] of a model's, with its processor or that of the modality whose tower it uses."""
    from hf_contrastive.data.modalities import Modality

    owner = model.config.modalities[name].shared_with or name
    settings = model.config.modalities[owner]
    if settings.tower is None:
        return Modality(width=settings.features)
    given = processors.get(name, processors.get(owner))
    if given is None:
        raise ValueError(f"`processors` has none for {name!r}.")
    reads = model.inputs_of(name)
    kind = kind_of(reads)
    if isinstance(given, (str, Path)):
        given = LOADERS[kind].from_pretrained(given, trust_remote_code=False)
    if name in options:
        chosen: Mapping[str, Any] | None = options[name]
    else:
        chosen = default_options(name, given, getattr(model, f"{owner}_model"), reads, settings.pooling)
    # The mask that an extractor makes when asked is no text's.
    made = {*given.model_input_names} | ({"attention_mask"} if kind == "audio" else set())
    called = {own: model.input_name(name, own) for own in reads if own in made}
    rename = {own: new for own, new in called.items() if new != own}
    return Modality(processor=given, kind=kind, options=chosen, rename=rename)


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
    kind = kind_of(reads)
    if kind == "text":
        return _text_options(name, processor, encoder, reads)
    if kind == "image":
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
