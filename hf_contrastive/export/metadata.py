"""What the card of an exported folder says to the Hub, and the lines that load it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_contrastive.report.metadata import ZERO_SHOT, zero_shot_runs
from hf_contrastive.report.snippets import encoding_snippet, usage_snippet


_TAGS: tuple[str, ...] = ("hf_contrastive", "contrastive-learning", "dual-encoder")
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
    if files := sorted(file.name for file in path.glob("*.onnx")):
        tags = (*_TAGS, "onnx")
        return ExportMetadata("onnx", "feature-extraction", tags, _onnx_snippet(path, source, files, on_hub))
    if not (path / "config.json").exists():
        raise ValueError(f"`folder` {str(path)!r} holds no model: there is no config.json.")
    config = _read(path / "config.json")
    kind = config.get("model_type")
    has_processor = (path / "processor_config.json").exists()
    if kind == "multi_encoder":
        return ExportMetadata("hf_contrastive", "feature-extraction", _TAGS, _own_snippet(path, name))
    if (path / "modules.json").exists() and kind not in ZERO_SHOT:
        tags = (*_TAGS, "sentence-transformers", "feature-extraction")
        return ExportMetadata("sentence-transformers", "sentence-similarity", tags, _sentence_snippet(source))
    tags = (*_TAGS, *(["sentence-transformers"] if (path / "modules.json").exists() else []))
    task = "feature-extraction"
    if has_processor and zero_shot_runs(config):
        task = "zero-shot-image-classification"
    elif has_processor and kind == "clap":
        # A pipeline of transformers that is none of the Hub's tasks.
        tags = (*tags, "zero-shot-audio-classification")
    return ExportMetadata(
        "transformers",
        task,
        tags,
        _clap_snippet(source) if kind == "clap" else usage_snippet(name, model_type=str(kind)),
    )


def _clap_snippet(source: str) -> str:
    lines = ["from transformers import AutoModel, AutoProcessor", ""]
    lines += [f"model = AutoModel.from_pretrained({source})", f"processor = AutoProcessor.from_pretrained({source})"]
    lines += ["sound = [0.0, 0.1] * 24000  # yours, at the rate of the processor", f"texts = {_TEXTS}"]
    called = "audio=[sound], text=texts, sampling_rate=processor.feature_extractor.sampling_rate"
    lines.append(f'inputs = processor({called}, return_tensors="pt", padding=True, truncation=True)')
    return "\n".join([*lines, "print(model(**inputs).logits_per_audio.softmax(dim=-1))"])


def _sentence_snippet(source: str) -> str:
    lines = ["from sentence_transformers import SentenceTransformer", "", f"model = SentenceTransformer({source})"]
    return "\n".join(
        [*lines, f"embeddings = model.encode({_TEXTS})", "print(model.similarity(embeddings, embeddings))"]
    )


def _own_snippet(folder: Path, name: str) -> str:
    if not (folder / "processor_config.json").exists():
        lines = ["import hf_contrastive  # pip install hf-contrastive", "from transformers import AutoModel", ""]
        return "\n".join([*lines, f"print(AutoModel.from_pretrained({json.dumps(name)}).modalities)"])
    entries = _read(folder / "processor_config.json")["modalities"]
    return encoding_snippet(name, {modality: entry["kind"] for modality, entry in entries.items()})


def _onnx_snippet(folder: Path, source: str, files: Iterable[str], on_hub: bool) -> str:
    lines = ["from pathlib import Path", "", "import onnxruntime", ""]
    if on_hub:
        lines.insert(3, "from huggingface_hub import snapshot_download")
    lines.append(f"folder = Path({f'snapshot_download({source})' if on_hub else source})")
    for file in files:
        stem = file.removesuffix(".onnx")
        lines.append(f'{stem} = onnxruntime.InferenceSession(folder / "{file}")')
        lines.append(f"print([x.name for x in {stem}.get_inputs()])")
    if "text.onnx" in files and (folder / "tokenizer.json").exists():
        lines.insert(lines.index("", 3), "from transformers import AutoTokenizer")
        lines.append("wanted = {x.name for x in text.get_inputs()}")
        lines.append(f'inputs = AutoTokenizer.from_pretrained(folder)({_TEXTS}, return_tensors="np", padding=True)')
        lines.append("print(text.run(None, {name: x for name, x in inputs.items() if name in wanted})[0].shape)")
    return "\n".join(lines)


def _adapter(folder: Path, source: str) -> ExportMetadata:
    base = _read(folder / "adapter_config.json").get("base_model_name_or_path") or "the base model"
    lines = ["import hf_contrastive  # pip install hf-contrastive[peft]", "from transformers import AutoModel", ""]
    lines.append(f"base = AutoModel.from_pretrained({json.dumps(base)})")
    lines.append(f"model = hf_contrastive.load_adapter(base, {source})  # with the temperature it was trained to")
    lines.append("# Without that package: peft.PeftModel.from_pretrained(base, ...), the same embeddings")
    return ExportMetadata("peft", "feature-extraction", (*_TAGS, "lora"), "\n".join(lines))


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
