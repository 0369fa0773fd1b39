"""ONNX files: one per tower, where other libraries look for them, for any number of rows and any length."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPModel

from hf_contrastive.export import DifferentExportError, export, export_metadata
from hf_contrastive.export.onnx_files import called
from hf_contrastive.export.onnx_snippet import onnx_snippet
from tests.export.alone import run_alone
from tests.export.cases import RATE, encoder
from tests.export.test_exporting import PICTURE, TEXTS


ALONE = """
import sys
import numpy as np
from PIL import Image
from safetensors.numpy import load_file
expected = load_file(sys.argv[1])
texts, picture = {texts}, Image.new("RGB", (20, 30), "red")
def compare(name, rows):
    np.testing.assert_allclose(rows, expected[name], rtol=0, atol=1e-4)
    print("equal", name)
image, audio = AutoImageProcessor.from_pretrained(folder / "image"), AutoFeatureExtractor.from_pretrained(folder)
words = AutoTokenizer.from_pretrained(folder)
compare("text", embed("text_model.onnx", words(texts, padding=True, truncation=True, return_tensors="np")))
compare("image", embed("vision_model.onnx", image([picture], return_tensors="np")))
compare("audio", embed("audio_model.onnx", audio([[0.0, 0.1] * 1700], sampling_rate=4000, return_tensors="np")))
"""


@pytest.fixture
def packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.mark.slow
@pytest.mark.usefixtures("packages")
def test_people_without_the_package_run_them_on_raw_values(tmp_path: Path):
    # DINOv2 takes pictures of other sizes than its configuration says, wav2vec 2.0 sounds of any length.
    model = encoder({"audio": "wav2vec2", "image": "dinov2", "text": "modernbert"}, logit_bias_init_value=-2.0)
    square = {"height": 16, "width": 16}
    images = CLIPImageProcessor(size=square, crop_size=square)
    model.processor.modalities["image"] = replace(model.processor.modalities["image"], processor=images)
    exported = export(model, None, tmp_path / "out", "onnx")
    assert (exported.metadata.library_name, exported.metadata.pipeline_tag) == ("onnx", "feature-extraction")
    assert "multi-encoder" in exported.metadata.tags
    files = sorted(path.name for path in (tmp_path / "out" / "onnx").iterdir())
    assert files == ["audio_model.onnx", "text_model.onnx", "vision_model.onnx"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["logit_scale"], config["logit_bias"]) == (pytest.approx(model.logit_scale.item()), -2.0)
    rows = {
        "text": model.encode_text(TEXTS),
        "image": model.encode_image([PICTURE]),
        "audio": model.encode_audio([{"array": [0.0, 0.1] * 1700, "sampling_rate": RATE}]),
    }
    save_file(rows, tmp_path / "rows.safetensors")
    # After the lines of the card.
    snippet = exported.metadata.snippet.replace("8000, sampling", "2000, sampling")
    code = "\n".join([snippet, ALONE.replace("{texts}", repr(TEXTS))])
    out = run_alone(code, tmp_path / "rows.safetensors", cwd=tmp_path)
    assert out.splitlines()[-3:] == ["equal text", "equal image", "equal audio"]


@pytest.mark.slow
@pytest.mark.usefixtures("packages")
def test_large_weights_lie_beside_their_file(clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.export.onnx_files._LARGEST", 1)
    joined = encoder({"query": "bert", "document": "mpnet"})
    export(joined, None, tmp_path / "out", "onnx", modalities=["query"])
    assert sorted(path.name for path in (tmp_path / "out" / "onnx").iterdir()) == [
        "text_model.onnx",
        "text_model.onnx.data",
    ]
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / "text_model.onnx")
    # Under the tower's own names, though the model calls them `query_input_ids`.
    assert [x.name for x in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert session.get_outputs()[0].name == "text_embeds"
    # The configuration is that of the tower, as nobody without the package knows another.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "bert"


def test_files_are_called_as_others_expect():
    assert called({"photo": "image", "words": "text", "sound": "audio"}) == {
        "photo": ("vision_model.onnx", "image_embeds"),
        "words": ("text_model.onnx", "text_embeds"),
        "sound": ("audio_model.onnx", "audio_embeds"),
    }
    assert called({"query": "text", "document": "text", "item": "embedding"}) == {
        name: (f"{name}_model.onnx", f"{name}_embeds") for name in ("query", "document", "item")
    }


@pytest.mark.usefixtures("packages")
def test_a_tower_that_cannot_be_traced_leaves_nothing(
    clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("hf_contrastive.export.onnx_files._write", fail)
    with pytest.raises(
        DifferentExportError, match=r"'text' cannot be written.*no such operator\. Nothing .*`modalities`"
    ):
        export(clip, None, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_lines_for_siglip_pad_texts_to_one_length(tmp_path: Path):
    model = encoder({"image": "vit", "text": "siglip_text"})
    model.config.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    lines = onnx_snippet(tmp_path, '"."', ["text_model.onnx", "vision_model.onnx"], on_hub=False)
    assert 'padding="max_length"' in lines
    compile(lines, "card", "exec")


def test_nothing_is_written_where_packages_lack(clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(ImportError, match=r"\['onnxruntime'\]: pip install 'hf-contrastive\[onnx\]'"):
        export(clip, None, tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "loads"), [("clip", True), ("siglip", True), ("multi_encoder", False)])
def test_only_what_javascript_loads_is_tagged_so(kind: str, loads: bool, tmp_path: Path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    for name in ("text", "vision"):
        (tmp_path / "onnx" / f"{name}_model.onnx").write_bytes(b"")
    told = export_metadata(tmp_path)
    assert ("transformers.js" in told.tags) == loads
    assert {"onnx", "dual-encoder"} <= set(told.tags)
