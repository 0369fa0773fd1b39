"""A trained model into a folder that other people's programs load, compared with the model before it is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_contrastive.export.adapters import merged, write_adapter
from hf_contrastive.export.card import write_card
from hf_contrastive.export.folders import check_apart, new_folder
from hf_contrastive.export.formats import FORMATS
from hf_contrastive.export.metadata import ExportMetadata
from hf_contrastive.export.onnx_files import require_onnx
from hf_contrastive.export.ways import Way
from hf_contrastive.export.writer import Writer, other_ways
from hf_contrastive.report.names import CARD
from hf_contrastive.training.adapters import is_adapted


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: Where.
        format: As what: one of `FORMATS`, never `"auto"`.
        metadata: What its card says to the Hub.
        reason: Why it is no plain class of `transformers`, where it was tried.
        others: In that case, the ways in which other libraries can have it.
    """

    folder: Path
    format: str
    metadata: ExportMetadata
    reason: str | None = None
    others: tuple[Way, ...] = ()


def export(
    model: Any,
    processor: Any,
    folder: str | Path,
    format: str = "auto",
    *,
    modalities: Sequence[str] | None = None,
    merge: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    card: str | Path | None = None,
) -> Exported:
    """
    Write a trained model so that people without this package can load it.

    What was written is loaded again and compared with the model on a few examples, in single precision on the CPU:
    embeddings to 1e-6 (ONNX 1e-4), temperature and bias. The folder appears at once, complete, or not at all; it holds
    neither pickles nor code.

    Args:
        model ([`~transformers.PreTrainedModel`] or `peft.PeftModel`):
            A [`MultiEncoder`] or a dual encoder of `transformers`, with or without adapters.
        processor ([`~transformers.ProcessorMixin`], *optional*):
            Its processor. By default that of the [`MultiEncoder`], where it has one.
        folder (`str` or `Path`):
            Where to.
        format (`str`, *optional*, defaults to `"auto"`):
            - `"transformers"`: `CLIPModel`, `SiglipModel`, `VisionTextDualEncoderModel` or `ClapModel`. With images and a
              processor, `SentenceTransformer(folder)` works as well.
            - `"sentence-transformers"`: the text tower alone, for `SentenceTransformer(folder)`.
            - `"onnx"`: a file per modality, `onnx/text_model.onnx` for texts, and so on.
            - `"multi_encoder"`: as it is, to be loaded with this package, whose name is in the card.
            - `"adapter"`: the adapter alone.

            `"auto"` is the adapter where there is one, else `"transformers"` where that can be, else `"multi_encoder"`.
        modalities (`list[str]`, *optional*):
            Those to write, by default all.
        merge (`bool`, *optional*, defaults to `False`):
            Whether to merge an adapter into the weights first.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether to replace a folder that holds a model.
        name (`str`, *optional*):
            Hub id that the lines in the card load. By default the folder.
        card (`str` or `Path`, *optional*):
            Folder or Hub id of the trained model. The card that was generated there becomes that of the export, with the
            lines, library and task of its own files. What people wrote into the card of a folder that is replaced stays.

    Raises:
        InexpressibleError: The format cannot express the model; the message says what stands against it, and which
            formats are possible.
        DifferentExportError: What was written does not give what the model gives. Nothing is left of it.
        FileExistsError: The folder is not empty and may not be replaced.
        ImportError: A package that the format needs is not installed.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, but got {format!r}.")
    if not isinstance(model, PreTrainedModel) and not is_adapted(model):
        raise ValueError(f"`model` must be a model of `transformers` or `peft`, but got a {type(model).__name__}.")
    if merge and not is_adapted(model):
        raise ValueError("`merge` is for a model with an adapter of `peft`, and this one has none.")
    if not merge and is_adapted(model):
        if format not in ("auto", "adapter"):
            raise ValueError(f"A model with an adapter is written as {format!r} with `merge=True`.")
        format = "adapter"
        if modalities is not None:
            raise ValueError("`modalities` is for other formats: an adapter is that of all towers. Say `merge=True`.")
    elif format == "adapter":
        raise ValueError("`format` is 'adapter', but the model has none, or it is to be merged.")
    if format == "onnx":
        require_onnx()
    for source in (card, getattr(model, "name_or_path", None)):
        check_apart(source, Path(folder))
    before = Path(folder).expanduser() / CARD
    kept = None
    others: tuple[Way, ...] = ()
    with new_folder(folder, overwrite=overwrite) as temporary:
        old = before.read_text(encoding="utf-8") if before.is_file() else None
        if format == "adapter":
            write_adapter(model, temporary)
            if processor is not None:
                processor.save_pretrained(temporary)
            written, reason = "adapter", None
        else:
            writer = Writer(merged(model) if merge else model, processor, modalities)
            written, reason = writer.write(format, temporary)
            kept = writer.kept(written)
            if reason is not None:
                others = tuple(way for way in other_ways(writer.model) if way.format != written)
        metadata = write_card(
            temporary,
            written,
            reason,
            name=name or str(folder),
            on_hub=name is not None,
            source=card,
            old=old,
            kept=kept,
        )
    return Exported(Path(folder).expanduser(), written, metadata, reason, others)
