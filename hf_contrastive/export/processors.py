"""The processor of a plain dual encoder, from that of any modalities, so that raw values become the same inputs."""

import copy
from pathlib import Path
from typing import Any

from transformers import (
    ClapProcessor,
    CLIPProcessor,
    ProcessorMixin,
    SiglipProcessor,
    VisionTextDualEncoderProcessor,
)


_CLASSES: dict[str, Any] = {
    "CLIPModel": CLIPProcessor,
    "SiglipModel": SiglipProcessor,
    "VisionTextDualEncoderModel": VisionTextDualEncoderProcessor,
    "ClapModel": ClapProcessor,
}


def plain_tokenizer(modality: Any) -> Any:
    """A tokenizer that does without options what a [`Modality`] has options for: which outputs, how long."""
    tokenizer, options = copy.deepcopy(modality.processor), modality.options or {}
    dropped = {name for name in ("attention_mask", "token_type_ids") if options.get(f"return_{name}") is False}
    settings = {"model_input_names": [name for name in tokenizer.model_input_names if name not in dropped]}
    if (longest := options.get("max_length")) is not None:
        settings["model_max_length"] = longest
    if (side := options.get("padding_side")) is not None:
        settings["padding_side"] = side
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    # What is saved.
    tokenizer.init_kwargs.update(settings)
    return tokenizer


def plain_part(modality: Any) -> Any:
    """A processor of pictures or sounds that does without options what a [`Modality`] has options for."""
    part = copy.deepcopy(modality.processor)
    for name, value in (modality.options or {}).items():
        setattr(part, name, value)
    return part


def plain_processor(architecture: str, other: Any, text: Any) -> ProcessorMixin:
    """The processor that goes with a class of `transformers`, from the [`Modality`] of images or sounds and of texts."""
    made: ProcessorMixin = _CLASSES[architecture](plain_part(other), plain_tokenizer(text))
    return made


def save_processor(processor: Any, folder: Path) -> None:
    """Write a processor where all versions of `transformers`, and other libraries, look for its parts."""
    processor.save_pretrained(folder)
    for name in ("image_processor", "feature_extractor"):
        if (part := getattr(processor, name, None)) is not None:
            part.save_pretrained(folder)
    name_tokenizer(folder)


def name_tokenizer(folder: Path) -> None:
    """Call the class of a saved tokenizer of no architecture as `transformers` 4 knows it too."""
    file = folder / "tokenizer_config.json"
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'), encoding="utf-8")


def text_arguments(model_type: str) -> dict[str, Any]:
    """How texts are padded for a plain dual encoder, as its model card tells."""
    return {"padding": "max_length" if model_type.startswith("siglip") else True, "truncation": True}
