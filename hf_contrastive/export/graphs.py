"""A model's towers as ONNX files, with what makes their inputs and what is needed to compare embeddings."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hf_contrastive.export.checking import SIZES, reference_of
from hf_contrastive.export.comparing import examples_of
from hf_contrastive.export.errors import InexpressibleError
from hf_contrastive.export.onnx_files import write_onnx
from hf_contrastive.export.parts import scalars_of
from hf_contrastive.export.processors import plain_part, plain_tokenizer, save_processor
from hf_contrastive.export.raw import inputs_of_raw, of_kind
from hf_contrastive.models.processor import MultiEncoderProcessor


if TYPE_CHECKING:
    from hf_contrastive.export.writer import Writer


def write_graphs(writer: "Writer", folder: Path) -> None:
    """
    Write a file for each modality, the configuration with the trained temperature and bias, and the processor.

    Raises:
        DifferentExportError: A file does not return what the tower does.
    """
    reference = reference_of(writer.model)
    both = [examples_of(reference, *size) for size in SIZES]
    kinds = {m: part.kind for m, part in writer.parts.items()} if writer.own else {m: m for m in both[0]}
    examples = {
        m: [_raw(writer, m, kind, rows) or given[m] for rows, given in zip((2, 5), both, strict=True)]
        for m, kind in kinds.items()
    }
    names = {reference.input_name(m, own): own for m in kinds for own in reference.inputs_of(m)} if writer.own else {}
    write_onnx(reference, kinds, examples, names, folder)
    config, processor = _settings(writer)
    config.save_pretrained(folder)
    if processor is not None:
        save_processor(processor, folder)
    file = folder / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")) | scalars_of(writer.model, list(kinds))
    file.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _raw(writer: "Writer", modality: str, kind: str, rows: int) -> dict[str, Tensor] | None:
    """Inputs in the sizes that the processor makes, which may be others than the configuration's, of all but texts."""
    if writer.processor is None or kind not in ("image", "audio"):
        return None
    if not writer.own:
        values = of_kind(kind, getattr(writer.processor, "feature_extractor", None))
        # The last few are of other sizes than the first.
        return inputs_of_raw(writer.processor, kind, values[:rows], {})
    own = writer.processor.modalities[modality]
    found: dict[str, Tensor] = own.inputs(modality, of_kind(kind, own.processor)[:rows])
    return found


def _settings(writer: "Writer") -> tuple[Any, Any]:
    """A configuration and a processor, those of a plain class or of one tower where that can be."""
    try:
        model, pair = writer.plain()
        return model.config, writer.plain_processor(model, pair)
    except InexpressibleError:
        pass
    modalities: Mapping[str, Any] = {} if writer.processor is None else writer.processor.modalities
    kept = {
        m: replace(modalities[m], processor=(plain_tokenizer if part.kind == "text" else plain_part)(modalities[m]))
        for m, part in writer.parts.items()
        if m in modalities
    }
    if len(writer.parts) == 1 and (part := next(iter(writer.parts.values()))).encoder is not None:
        return part.encoder.config, kept[part.modality].processor if kept else None
    return writer.model.config, MultiEncoderProcessor(kept) if kept else None
