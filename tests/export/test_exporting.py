"""Towers x formats: what is written gives the same embeddings to people without the package, or it is said why not."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    CLIPModel,
    PreTrainedModel,
    pipeline,
)
from transformers.utils import logging

from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.export import DifferentExportError, InexpressibleError, export, export_metadata, possible_formats
from hf_contrastive.export.comparing import examples_of
from hf_contrastive.models import MultiEncoder
from tests.conftest import make_inputs
from tests.export.cases import encoder


@dataclass(frozen=True)
class Case:
    """Towers, the class that holds them, or why none does.

    Args:
        towers: By modality, names of the table.
        written: Class that is expected, or None.
        reason: Part of the reason why there is none, for the plain class and for `SentenceTransformer`.
    """

    towers: dict[str, str]
    written: str | None = None
    plain: str = ""
    texts: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


POOLER = {"pooling": {"text": "pooler"}}
SIGLIP = {"image": "siglip_vision", "text": "siglip_text"}
VT, MEAN, PADDED = "VisionTextDualEncoderModel", "pooling of 'text' is 'mean'", "reads texts of one length"
CASES = {
    "clip": Case({"image": "clip_vision", "text": "clip_text"}, "CLIPModel"),
    "clip without heads": Case(
        {"image": "clip_vision", "text": "clip_text"}, "CLIPModel", kwargs={"head": "none", "width": 16}
    ),
    "clip, half": Case({"image": "clip_vision", "text": "clip_text"}, "CLIPModel", kwargs={"dtype": torch.bfloat16}),
    "clip, mlp": Case(
        {"image": "clip_vision", "text": "clip_text"}, plain="the head of 'image' is 'mlp'", kwargs={"head": "mlp"}
    ),
    "clip with bias": Case(
        {"image": "clip_vision", "text": "clip_text"},
        plain="the model's `logit_bias` is -3.0",
        kwargs={"logit_bias_init_value": -3.0},
    ),
    "siglip": Case(SIGLIP, "SiglipModel", texts=PADDED, kwargs={"head": "none", "width": 16}),
    "siglip, head of texts": Case(
        SIGLIP,
        "SiglipModel",
        texts=PADDED,
        kwargs={"head": {"image": "none"}, "width": 16, "logit_bias_init_value": -9.0},
    ),
    "siglip, both heads": Case(SIGLIP, plain="'image' has a linear head", texts=PADDED),
    "vit, bert": Case({"image": "vit", "text": "bert"}, VT, kwargs=POOLER),
    "vit pooler, roberta": Case({"image": "vit", "text": "roberta"}, VT, kwargs={"pooling": "pooler"}),
    "dinov2, mpnet": Case({"image": "dinov2", "text": "mpnet"}, VT, kwargs=POOLER),
    "convnext, bert": Case({"image": "convnext", "text": "bert"}, VT, kwargs=POOLER),
    "swin, clip": Case({"image": "swin", "text": "clip_text"}, VT),
    "clip vision, bert": Case({"image": "clip_vision", "text": "bert"}, VT, kwargs=POOLER),
    "siglip vision, clip": Case({"image": "siglip_vision", "text": "clip_text"}, VT),
    "vit_mae, bert": Case({"image": "vit_mae", "text": "bert"}, plain="pooling of 'image' is 'cls'", kwargs=POOLER),
    "vit, bert mean": Case({"image": "vit", "text": "bert"}, plain=MEAN),
    "vit, roberta mean": Case({"image": "vit", "text": "roberta"}, plain=MEAN),
    "vit, mpnet, mlp": Case({"image": "vit", "text": "mpnet"}, plain=MEAN, kwargs={"head": "mlp"}),
    "vit, distilbert": Case({"image": "vit", "text": "distilbert"}, plain=MEAN),
    "vit, modernbert": Case({"image": "vit", "text": "modernbert"}, plain=MEAN),
    "vit, bert cls": Case(
        {"image": "vit", "text": "bert"}, plain="pooling of 'text' is 'cls'", kwargs={"pooling": {"text": "cls"}}
    ),
    "vit, qwen3": Case({"image": "vit", "text": "qwen3"}, plain="pooling of 'text' is 'last'"),
    "vit, bert attention": Case(
        {"image": "vit", "text": "bert"},
        plain="pooling of 'text' is 'attention'",
        texts="no learned attention",
        kwargs={"pooling": {"text": "attention"}},
    ),
    "vit, siglip": Case({"image": "vit", "text": "siglip_text"}, plain="the tower of 'text' is a SiglipText", texts=PADDED),
    "vit, clap": Case({"image": "vit", "text": "clap_text"}, plain="is a ClapTextModel", texts="is a ClapTextModel"),
    "clap": Case({"audio": "clap_audio", "text": "clap_text"}, "ClapModel", texts="is a ClapTextModel"),
    "clap, mlp": Case(
        {"audio": "clap_audio", "text": "clap_text"},
        "ClapModel",
        texts="is a ClapTextModel",
        kwargs={"head": "mlp", "width": 16},
    ),
    "whisper, bert": Case({"audio": "whisper", "text": "bert"}, plain="pooling of 'audio' is 'mean'"),
    "ast, clap": Case(
        {"audio": "ast", "text": "clap_text"}, plain="the tower of 'audio' is a ASTModel", texts="is a ClapTextModel"
    ),
    "wav2vec2, bert": Case({"audio": "wav2vec2", "text": "bert"}, plain="pooling of 'audio' is 'mean'"),
    "three": Case({"image": "vit", "text": "bert", "audio": "ast"}, plain="name two of them"),
}
# `AutoModel` has no such encoder alone, or there are no processors for these in the test.
SOUNDS = [name for name, case in CASES.items() if "audio" in case.towers]
TEXTS = ["a red picture", "green", "something blue and something else"]
PICTURE = Image.new("RGB", (20, 30), "red")


@torch.no_grad()
def rows_of(model: Any) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Inputs and unit embeddings of the model itself."""
    inputs = examples_of(model.float())
    return inputs, {m: model(**given)[f"{m}_embeds"] for m, given in inputs.items()}


@pytest.mark.parametrize("name", CASES)
def test_an_encoder_is_written_as_a_plain_class_or_as_it_is(name: str, tmp_path: Path):
    case = CASES[name]
    model = encoder(case.towers, **case.kwargs)
    exported = export(model, None, tmp_path / "out")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".bin", ".pt", ".py", ".pkl")]
    if case.written is None:
        assert exported.format == "multi_encoder"
        assert case.plain in str(exported.reason)
        assert exported.metadata.library_name == "hf_contrastive"
        return
    assert (exported.format, exported.reason) == ("transformers", None)
    loaded: Any = AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert type(loaded).__name__ == case.written
    inputs, expected = rows_of(model)
    with torch.no_grad():
        found = loaded(**{key: x for given in inputs.values() for key, x in given.items()})
    for modality, rows in expected.items():
        # Eager here, the default attention there.
        torch.testing.assert_close(found[f"{modality}_embeds"], rows, rtol=0, atol=1e-6)
    scale = loaded.logit_scale_a if case.written == "ClapModel" else loaded.logit_scale
    torch.testing.assert_close(scale.detach().reshape(1), model.logit_scale.detach().float(), rtol=0, atol=1e-6)
    if case.written == "SiglipModel":
        assert loaded.logit_bias.item() == case.kwargs.get("logit_bias_init_value", 0.0)


@pytest.mark.parametrize("name", CASES)
def test_formats_that_are_possible_are_known_before(name: str):
    case = CASES[name]
    found = possible_formats(encoder(case.towers, **case.kwargs))
    assert case.plain in (found["transformers"] or "")
    assert (found["transformers"] is None) == (case.written is not None)
    assert (found["sentence-transformers"] is None) == (case.texts is None)
    assert (case.texts or "") in (found["sentence-transformers"] or "")


def test_a_format_that_cannot_be_names_those_that_can(tmp_path: Path):
    model = encoder({"image": "vit", "text": "bert"})
    with pytest.raises(InexpressibleError, match=r"'text' is 'mean'.*\['sentence-transformers', 'onnx', 'multi_encoder'\]"):
        export(model, None, tmp_path / "out", "transformers")
    assert list(tmp_path.iterdir()) == []


def test_two_of_three_modalities_are_written_with_their_own_temperature(tmp_path: Path):
    towers = {"image": "clip_vision", "text": "clip_text", "audio": "ast"}
    model = encoder(towers, scale_per_pair=True)
    with torch.no_grad():
        model.logit_scale.copy_(torch.tensor([1.0, 2.0, 3.0]))  # audio-image, audio-text, image-text
    assert export(model, None, tmp_path / "out", modalities=["image", "text"]).format == "transformers"
    assert CLIPModel.from_pretrained(tmp_path / "out").logit_scale.item() == 3.0


# ---- Without the package ----

ALONE = """
import sys, torch
assert not any("hf_contrastive" in name for name in sys.modules)
from importlib.util import find_spec
assert find_spec("hf_contrastive") is None
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor
folder, rows = sys.argv[1:]
model, processor, expected = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder), load_file(rows)
from PIL import Image
padding = "max_length" if "siglip" in model.config.model_type else True
inputs = processor(text={texts}, images=Image.new("RGB", (20, 30), "red"), padding=padding, truncation=True,
                   return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
for name in ("text", "image"):
    torch.testing.assert_close(output[name + "_embeds"], expected[name], rtol=0, atol=1e-6)
print(type(model).__name__)
"""


def run_alone(python: str, code: str, *arguments: Path, cwd: Path) -> str:
    """Run code where the package cannot be imported."""
    env = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [python, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def written(name: str, folder: Path, format: str = "auto") -> MultiEncoder:
    """An exported case, with what its model makes of raw values beside it."""
    model = encoder(CASES[name].towers, **CASES[name].kwargs)
    export(model, None, folder / "out", format)
    rows = {"text": model.encode_text(TEXTS), "image": model.encode_image([PICTURE])}
    save_file(rows, folder / "rows.safetensors")
    return model


@pytest.mark.parametrize("name", ["clip", "siglip, head of texts", "vit, bert"])
def test_people_without_the_package_get_the_same_embeddings_of_raw_values(name: str, tmp_path: Path):
    import hf_contrastive

    # An environment that has it installed would not be theirs.
    if any("site-packages" in path for path in hf_contrastive.__path__):
        pytest.skip("hf_contrastive is installed where other programs find it")
    written(name, tmp_path)
    code = ALONE.replace("{texts}", repr(TEXTS))
    out = run_alone(sys.executable, code, tmp_path / "out", tmp_path / "rows.safetensors", cwd=tmp_path)
    assert CASES[name].written in out


@pytest.mark.parametrize("name", ["clip", "siglip", "vit, bert"])
def test_the_zero_shot_pipeline_runs(name: str, tmp_path: Path):
    case = CASES[name]
    kwargs = dict(case.kwargs)
    model = encoder(case.towers, **kwargs)
    exported = export(model, None, tmp_path / "out")
    if name == "siglip":
        # The pipeline pads to 64 tokens, more than this one takes, and the card does not promise it.
        assert exported.metadata.pipeline_tag == "feature-extraction"
        return
    assert exported.metadata.pipeline_tag == "zero-shot-image-classification"
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        run = pipeline("zero-shot-image-classification", model=str(tmp_path / "out"))
    finally:
        logging.set_verbosity(verbosity)
    found = run(PICTURE, candidate_labels=["red", "green"], hypothesis_template="a {} picture")
    cosines = model.similarity(model.encode_image([PICTURE]), model.encode_text(["a red picture", "a green picture"]))
    expected = (cosines[0] * model.logit_scale.detach().exp()).softmax(0)
    scores = {entry["label"]: entry["score"] for entry in found}
    torch.testing.assert_close(torch.tensor([scores["red"], scores["green"]]), expected, rtol=0, atol=1e-5)
