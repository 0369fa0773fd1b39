"""What the card of an exported folder says to the Hub, and the lines that load it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_contrastive.export.onnx_files import FOLDER
from hf_contrastive.export.onnx_snippet import onnx_snippet
from hf_contrastive.report.hub_schema import is_repo_id
from hf_contrastive.report.metadata import ZERO_SHOT, zero_shot_runs
from hf_contrastive.report.snippets import encoding_snippet, usage_snippet


_TAGS: tuple[str, ...] = ("hf_contrastive", "contrastive-learning")
# By how many towers there are.
TOWERS = ("dual-encoder", "multi-encoder")
# Whose ONNX files transformers.js was seen to load by its own classes, such as `CLIPTextModelWithProjection`.
_IN_JAVASCRIPT = ("clip", "siglip")
_TEXTS = '["a red star on grass", "a blue ring at night"]'


@dataclass(frozen=True)
class ExportMetadata:
    """What a model card says of a folder.

    Args:
        library_name: Library that loads it, as the Hub calls it.
        pipeline_tag: Task that the Hub lists it under. The pipeline of a zero-shot task runs on the folder.
        tags: Further tags.
        snippet: Python lines that load and use it.
    """

    library_name: str
    pipeline_tag: str
    tags: tuple[str, ...]
    snippet: str


def export_metadata(folder: str | Path, name: str | None = None) -> ExportMetadata:
    """
    What to tell of a folder that [`export`], or `save_pretrained`, has written.

    Args:
        folder (`str` or `Path`):
            The folder.
        name (`str`, *optional*):
            Hub id that the snippet loads. By default the folder.

    Raises:
        ValueError: The folder holds no model.
    """
    return metadata_of(Path(folder), name or str(folder), on_hub=name is not None)


def metadata_of(path: Path, name: str, *, on_hub: bool) -> ExportMetadata:
    """What to tell of the folder `path`, which is called `name` in what is told; that is a Hub id if `on_hub`."""
    source = json.dumps(name)
    if (path / "adapter_config.json").exists():
        return _adapter(path, source)
    if files := sorted(file.name for file in path.glob(f"{FOLDER}/*.onnx")):
        kind = _read(path / "config.json").get("model_type")
        tags = _tags(len(files), "onnx", *(["transformers.js"] if kind in _IN_JAVASCRIPT else []))
        return ExportMetadata("onnx", "feature-extraction", tags, onnx_snippet(path, source, files, on_hub))
    if not (path / "config.json").exists():
        raise ValueError(f"`folder` {str(path)!r} holds no model: there is no config.json.")
    config = _read(path / "config.json")
    kind = config.get("model_type")
    has_processor = (path / "processor_config.json").exists()
    if kind == "multi_encoder":
        tags = _tags(len(config["modalities"]))
        return ExportMetadata("hf_contrastive", _task_of_own(path), tags, _own_snippet(path, name))
    if (path / "modules.json").exists() and kind not in ZERO_SHOT:
        tags = _tags(1, "sentence-transformers", "feature-extraction")
        return ExportMetadata("sentence-transformers", "sentence-similarity", tags, _sentence_snippet(source))
    tags = _tags(2, *(["sentence-transformers"] if (path / "modules.json").exists() else []))
    if not has_processor:
        return ExportMetadata("transformers", "feature-extraction", tags, _bare_snippet(source))
    if kind == "clap":
        # Its pipeline is none of the Hub's tasks.
        tags = (*tags, "zero-shot-audio-classification")
        return ExportMetadata("transformers", "feature-extraction", tags, _clap_snippet(source))
    task = "zero-shot-image-classification" if zero_shot_runs(config) else "feature-extraction"
    return ExportMetadata("transformers", task, tags, usage_snippet(name, model_type=str(kind)))


def _tags(towers: int, *others: str) -> tuple[str, ...]:
    return (*_TAGS, *([TOWERS[min(towers, 3) - 2]] if towers > 1 else []), *others)


def _bare_snippet(source: str) -> str:
    lines = ["from transformers import AutoModel", "", f"model = AutoModel.from_pretrained({source})"]
    return "\n".join([*lines, "print(model.config)"])


def _clap_snippet(source: str) -> str:
    lines = ["from transformers import AutoModel, AutoProcessor", ""]
    lines += [f"model = AutoModel.from_pretrained({source})", f"processor = AutoProcessor.from_pretrained({source})"]
    lines += ["sound = [0.0, 0.1] * 24000  # yours, at the rate of the processor", f"texts = {_TEXTS}"]
    # Apart: one call would hand what is said of texts, padding and truncation, to sounds as well.
    lines.append('words = processor.tokenizer(texts, return_tensors="pt", padding=True, truncation=True)')
    lines.append("extract = processor.feature_extractor")
    lines.append('sounds = extract([sound], sampling_rate=extract.sampling_rate, return_tensors="pt")')
    return "\n".join([*lines, "print(model(**words, **sounds).logits_per_audio.softmax(dim=-1))"])


def _sentence_snippet(source: str) -> str:
    lines = ["from sentence_transformers import SentenceTransformer", "", f"model = SentenceTransformer({source})"]
    return "\n".join(
        [*lines, f"embeddings = model.encode({_TEXTS})", "print(model.similarity(embeddings, embeddings))"]
    )


def _own_snippet(folder: Path, name: str) -> str:
    if not (folder / "processor_config.json").exists():
        lines = ["import hf_contrastive  # pip install hf-contrastive", "from transformers import AutoModel", ""]
        return "\n".join([*lines, f"print(AutoModel.from_pretrained({json.dumps(name)}).modalities)"])
    return encoding_snippet(name, _kinds(folder))


def _task_of_own(folder: Path) -> str:
    kinds = set(_kinds(folder).values()) if (folder / "processor_config.json").exists() else set()
    return "sentence-similarity" if kinds == {"text"} else "feature-extraction"


def _kinds(folder: Path) -> dict[str, str]:
    entries = _read(folder / "processor_config.json")["modalities"]
    return {modality: entry["kind"] for modality, entry in entries.items()}


def _adapter(folder: Path, source: str) -> ExportMetadata:
    config = _read(folder / "adapter_config.json")
    # A place on a disk concerns nobody.
    base = name if is_repo_id(name := config.get("base_model_name_or_path")) else "the model it was trained on"
    lines = ["import hf_contrastive  # pip install hf-contrastive[peft]", "from transformers import AutoModel", ""]
    lines.append(f"base = AutoModel.from_pretrained({json.dumps(base)})")
    lines.append(f"model = hf_contrastive.load_adapter(base, {source})  # with the temperature it was trained to")
    lines.append("# Without that package: peft.PeftModel.from_pretrained(base, ...), the same embeddings")
    tags = (*_TAGS, str(config.get("peft_type") or "adapter").lower())
    return ExportMetadata("peft", "feature-extraction", tags, "\n".join(lines))


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
