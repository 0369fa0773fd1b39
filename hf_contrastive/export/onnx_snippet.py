"""Python lines that run ONNX files on raw values."""

import json
from collections.abc import Sequence
from pathlib import Path


_TEXTS = '["a red star on grass", "a blue ring at night"]'
# By file: the class of its processor, what its configuration is called, and values.
_USUAL = {
    "text_model.onnx": ("AutoTokenizer", "tokenizer_class", f"{_TEXTS}, padding={{padding}}, truncation=True"),
    "vision_model.onnx": ("AutoImageProcessor", "image_processor_type", 'Image.new("RGB", (64, 64), "green")'),
    "audio_model.onnx": ("AutoFeatureExtractor", "feature_extractor_type", "[0.0, 0.1] * 8000, sampling_rate={rate}"),
}
_EMBED = """\
def embed(file, inputs):
    session = onnxruntime.InferenceSession(folder / "onnx" / file)
    return session.run(None, {x.name: inputs[x.name] for x in session.get_inputs()})[0]
"""


def onnx_snippet(folder: Path, source: str, files: Sequence[str], on_hub: bool) -> str:
    """
    Lines for the files that a folder holds.

    Args:
        folder: Where they are.
        source: The folder, or a Hub id, as Python has it.
        files: Names of the files.
        on_hub: Whether `source` is a Hub id.
    """
    lines, calls, names = ["import onnxruntime"], [], []
    classes = []
    for file in files:
        place = _place(folder, _USUAL[file][1]) if file in _USUAL else None
        if place is None:
            calls.append(f'print([x.name for x in onnxruntime.InferenceSession(folder / "onnx/{file}").get_inputs()])')
            continue
        name, _, values = _USUAL[file]
        classes.append(name)
        # SigLIP reads texts of one length.
        padding = '"max_length"' if '"siglip' in (folder / "config.json").read_text(encoding="utf-8") else "True"
        values = values.format(padding=padding, rate=_rate(place))
        where = "folder" if place == folder else f'folder / "{place.name}"'
        names.append(file.removesuffix("_model.onnx"))
        calls.append(f'{names[-1]} = embed("{file}", {name}.from_pretrained({where})({values}, return_tensors="np"))')
    if "AutoImageProcessor" in classes:
        lines.append("from PIL import Image")
    if on_hub:
        lines.insert(0, "from huggingface_hub import snapshot_download")
    if classes:
        lines.append(f"from transformers import {', '.join(sorted(classes))}")
    lines = ["from pathlib import Path", "", *sorted(lines, key=lambda line: line.split()[1].lower()), ""]
    lines.append(f"folder = Path({f'snapshot_download({source})' if on_hub else source})")
    if names:
        lines += ["", "", *_EMBED.splitlines(), "", *calls]
        lines.append(f"print({names[0]} @ {names[-1]}.T)  # cosines")
    else:
        lines += calls
    return "\n".join(lines)


def _place(folder: Path, mark: str) -> Path | None:
    """Where the processor is whose configuration names its class under `mark`: in the folder or in one of it."""
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for file in ("tokenizer_config.json", "preprocessor_config.json"):
            if (place / file).is_file() and mark in json.loads((place / file).read_text(encoding="utf-8")):
                return place
    return None


def _rate(place: Path) -> int:
    file = place / "preprocessor_config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("sampling_rate", 0) if file.is_file() else 0
    return int(found)
