"""Raw values that models and exports are compared on, and what a plain processor makes of them."""

from collections.abc import Mapping
from typing import Any

from hf_contrastive.export.checking import PICTURES, SOUNDS, raw_texts
from hf_contrastive.export.parts import Part
from hf_contrastive.report.towers import longest_text


def raw_values(part: Part, processor: Any) -> list[Any]:
    """Values of a modality as its own processor takes them: texts of which one is cut, pictures of several sizes."""
    modality = processor.modalities[part.modality]
    if part.kind == "text":
        longest = (modality.options or {}).get("max_length") or modality.processor.model_max_length
        return list(raw_texts(longest, longest_text(part.encoder.config)))
    return of_kind(part.kind, modality.processor)


def of_kind(kind: str, processor: Any) -> list[Any]:
    """Pictures, or sounds in the rate of their processor."""
    if kind == "image":
        return list(PICTURES)
    return [{"array": x, "sampling_rate": processor.sampling_rate} for x in SOUNDS]


def inputs_of_raw(processor: Any, kind: str, values: list[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the processor of a plain dual encoder makes of raw values, texts with these arguments."""
    if kind == "text":
        return dict(processor.tokenizer(values, return_tensors="pt", **arguments))
    if kind == "image":
        return dict(processor.image_processor(values, return_tensors="pt"))
    extractor, sounds = processor.feature_extractor, [value["array"] for value in values]
    return dict(extractor(sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt"))
