"""Towers x formats: what is written gives the same embeddings to people without the package, or it is said why not."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoProcessor,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    pipeline,
)
from transformers.utils import logging

from hf_contrastive.export import DifferentExportError, InexpressibleError, export, export_metadata, possible_formats
from hf_contrastive.export.comparing import examples_of
from hf_contrastive.models import MultiEncoder
from hf_contrastive.models.precision import unit
from tests.conftest import make_inputs
from tests.export.alone import needs_sentence_transformers, run_alone
from tests.export.cases import CASES, encoder


TEXTS = ["a red picture", "green", "something blue and something else", "picture " * 30]
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
    with pytest.raises(
        InexpressibleError,
        match=r"'text' is 'mean'.* What can be written: 'sentence-transformers', 'onnx', 'multi_encoder'\.",
    ):
        export(model, None, tmp_path / "out", "transformers")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_several_precisions_lose_nothing(tmp_path: Path):
    model = encoder(CASES["clip"].towers, dtype=torch.bfloat16)
    with torch.no_grad():
        # As it is trained beside weights in half precision.
        model.logit_scale.data = torch.tensor([2.7182817])
    export(model, None, tmp_path / "out")
    assert CLIPModel.from_pretrained(tmp_path / "out", dtype="auto").logit_scale.item() == model.logit_scale.item()


def test_single_towers_of_an_export_are_loaded_as_such(tmp_path: Path):
    model = encoder(CASES["clip"].towers)
    export(model, None, tmp_path / "out")
    inputs = model.processor(text=TEXTS, images=[PICTURE])
    text, image = (
        kind.from_pretrained(tmp_path / "out").eval()
        for kind in (CLIPTextModelWithProjection, CLIPVisionModelWithProjection)
    )
    with torch.no_grad():
        rows = text(inputs["input_ids"], inputs["attention_mask"]).text_embeds
        torch.testing.assert_close(unit(rows), model.encode_text(TEXTS), rtol=0, atol=1e-6)
        rows = image(inputs["pixel_values"]).image_embeds
        torch.testing.assert_close(unit(rows), model.encode_image([PICTURE]), rtol=0, atol=1e-6)


def test_two_of_three_modalities_are_written_with_their_own_temperature(tmp_path: Path):
    towers = {"image": "clip_vision", "text": "clip_text", "audio": "ast"}
    model = encoder(towers, scale_per_pair=True)
    with torch.no_grad():
        model.logit_scale.copy_(torch.tensor([1.0, 2.0, 3.0]))  # audio-image, audio-text, image-text
    assert export(model, None, tmp_path / "out", modalities=["image", "text"]).format == "transformers"
    assert CLIPModel.from_pretrained(tmp_path / "out").logit_scale.item() == 3.0


# ---- Without the package ----

# One process for all folders: libraries take longer to be imported than models to be compared.
ALONE = """
import sys, torch
from pathlib import Path
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor
for folder in map(Path, sys.argv[1:]):
    expected = load_file(folder / "rows.safetensors")
    model, processor = AutoModel.from_pretrained(folder / "out"), AutoProcessor.from_pretrained(folder / "out")
    padding = "max_length" if "siglip" in model.config.model_type else True
    options = {"padding": padding, "truncation": True, "return_tensors": "pt"}
    other = "audio" if "audio" in expected else "image"
    if other == "audio":
        sounds = processor.feature_extractor([[0.0, 0.1] * 1500], sampling_rate=4000, return_tensors="pt")
        inputs = sounds | processor.tokenizer({texts}, **options)
    else:
        inputs = processor(text={texts}, images=Image.new("RGB", (20, 30), "red"), **options)
    with torch.no_grad():
        output = model(**inputs)
    for name in ("text", other):
        torch.testing.assert_close(output[name + "_embeds"], expected[name], rtol=0, atol=1e-6)
    logits = (expected[other] @ expected["text"].T) * expected["scale"].exp() + expected.get("bias", 0)
    torch.testing.assert_close(output["logits_per_" + other], logits, rtol=0, atol=1e-4)
    print(folder.name, type(model).__name__)
"""


def written(name: str, folder: Path, format: str = "auto") -> MultiEncoder:
    """An exported case, with what its model makes of raw values beside it."""
    model = encoder(CASES[name].towers, **CASES[name].kwargs)
    export(model, None, folder / "out", format)
    rows = {"text": model.encode_text(TEXTS), "scale": model.logit_scale.detach()}
    if "image" in model.modalities:
        rows["image"] = model.encode_image([PICTURE])
    else:
        rows["audio"] = model.encode_audio([{"array": [0.0, 0.1] * 1500, "sampling_rate": 4000}])
    if hasattr(model, "logit_bias"):
        rows["bias"] = model.logit_bias.detach()
    save_file(rows, folder / "rows.safetensors")
    return model


def read_alone(code: str, names: list[str], folder: Path, format: str) -> list[str]:
    """What a program without the package says of exported cases."""
    folders = []
    for place, name in enumerate(names):
        folders.append(folder / str(place))
        folders[-1].mkdir()
        written(name, folders[-1], format)
    return run_alone(code.replace("{texts}", repr(TEXTS)), *folders, cwd=folder).splitlines()


def test_people_without_the_package_get_the_same_embeddings_of_raw_values(tmp_path: Path):
    names = ["clip", "siglip", "siglip, head of texts", "vit, bert", "clap"]
    said = read_alone(ALONE, names, tmp_path, "auto")
    assert said == [f"{place} {CASES[name].written}" for place, name in enumerate(names)]


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip of 64", "vit, bert"])
def test_the_zero_shot_pipeline_runs(name: str, tmp_path: Path):
    model = encoder(CASES[name].towers, **CASES[name].kwargs)
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
    logits = cosines[0] * model.logit_scale.detach().exp()
    expected = (logits - 1).sigmoid() if "siglip" in name else logits.softmax(0)
    scores = {entry["label"]: entry["score"] for entry in found}
    torch.testing.assert_close(torch.tensor([scores["red"], scores["green"]]), expected, rtol=0, atol=1e-5)


# ---- SentenceTransformer ----

SENTENCES = """
import sys, torch
from pathlib import Path
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
texts, picture = {texts}, Image.new("RGB", (20, 30), "red")
for folder in map(Path, sys.argv[1:]):
    model, expected = SentenceTransformer(str(folder / "out"), device="cpu"), load_file(folder / "rows.safetensors")
    rows = torch.tensor(model.encode(texts))
    torch.testing.assert_close(rows, expected["text"], rtol=0, atol=1e-6)
    torch.testing.assert_close(model.similarity(rows, rows), rows @ rows.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(model.encode(["red picture"], prompt="a ")), rows[:1], rtol=0, atol=1e-6)
    modules = [type(module).__name__ for module in model]
    assert modules[-1] == "Normalize", modules
    if "Pooling" not in modules:
        torch.testing.assert_close(torch.tensor(model.encode([picture])), expected["image"], rtol=0, atol=1e-6)
    print(folder.name, model.max_seq_length)
"""


TOWERS = [
    "clip",
    "vit, bert mean",
    "vit, mpnet, mlp",
    "vit, bert cls",
    "vit, bert",
    "vit, qwen3",
    "vit, distilbert",
    "vit, roberta mean",
    "vit, modernbert",
]


@pytest.mark.parametrize("name", TOWERS)
def test_a_text_tower_is_written_in_modules(name: str, tmp_path: Path):
    # What is written is read again by torch alone and compared on export; here, that it is what the library reads.
    written(name, tmp_path, "sentence-transformers")
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [m["path"] for m in modules] == sorted(m["path"] for m in modules)
    assert modules[-1]["type"] == "sentence_transformers.models.Normalize"
    assert all((tmp_path / "out" / m["path"]).is_dir() for m in modules)
    assert export_metadata(tmp_path / "out").library_name == "sentence-transformers"


@pytest.mark.slow
@needs_sentence_transformers
def test_the_library_reads_text_towers(tmp_path: Path):
    said = read_alone(SENTENCES, TOWERS, tmp_path, "sentence-transformers")
    # As many tokens as the tokenizer leaves, or as there are positions for.
    assert said == [f"{place} 12" for place in range(len(TOWERS))]


@pytest.mark.slow
@needs_sentence_transformers
def test_the_library_reads_plain_pairs(tmp_path: Path):
    said = read_alone(SENTENCES, ["clip", "siglip", "vit, bert"], tmp_path, "auto")
    assert len(said) == 3


def test_several_text_towers_must_be_told_apart(tmp_path: Path):
    model = encoder({"query": "bert", "document": "mpnet", "image": "vit"})
    with pytest.raises(InexpressibleError, match=r"there are 2: \['document', 'query'\]"):
        export(model, None, tmp_path / "out", "sentence-transformers")
    assert export(model, None, tmp_path / "out", "sentence-transformers", modalities=["query"]).format


@pytest.mark.parametrize(
    ("towers", "reason", "ways"),
    [
        (
            {"query": "bert", "document": "mpnet"},
            "the towers are: 'document' (text), 'query' (text).",
            ["'onnx'", "'sentence-transformers' of 'document'", "'sentence-transformers' of 'query'"],
        ),
        (
            {"image": "clip_vision", "text": "clip_text", "audio": "clap_audio"},
            "Name two of them in `modalities`.",
            ["'sentence-transformers'", "'onnx'", "'transformers' of 'image' and 'text'"],
        ),
        ({"image": "vit", "photo": "clip_vision"}, "'photo' (image)", ["'onnx'"]),
    ],
)
def test_what_no_class_can_be_is_told_with_the_ways_that_are_left(
    towers: dict[str, str], reason: str, ways: list[str], tmp_path: Path
):
    exported = export(encoder(towers), None, tmp_path / "out")
    assert exported.format == "multi_encoder"
    assert reason in str(exported.reason)
    assert sorted(map(str, exported.others)) == sorted(ways)
    for way in exported.others:
        if way.format != "onnx":
            place = tmp_path / "-".join(way.modalities or [way.format])
            assert export(encoder(towers), None, place, way.format, modalities=way.modalities).format == way.format


def test_a_shared_text_tower_is_one(tmp_path: Path):
    model = encoder({"query": "bert", "image": "vit"}, shared={"document": "query"})
    assert export(model, None, tmp_path / "out", "sentence-transformers").format == "sentence-transformers"


# ---- Plain models, adapters ----


def test_a_plain_model_is_written_as_it_is(model: PreTrainedModel, tmp_path: Path):
    assert export(model, None, tmp_path / "out").format == "transformers"
    inputs = make_inputs(3)
    with torch.no_grad():
        found, expected = AutoModel.from_pretrained(tmp_path / "out")(**inputs), model.eval()(**inputs)
    torch.testing.assert_close(found.logits_per_image, expected.logits_per_image, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="is for a MultiEncoder, but got a"):
        export(model, None, tmp_path / "own", "multi_encoder")


def adapted(clip: CLIPModel) -> Any:
    peft = pytest.importorskip("peft")
    with torch.no_grad():
        clip.logit_scale.fill_(1.5)
    return peft.get_peft_model(clip, peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_is_written_as_one(clip: CLIPModel, tmp_path: Path):
    base, inputs = copy.deepcopy(clip), make_inputs(3)
    model = adapted(clip).eval()
    exported = export(model, None, tmp_path / "out")
    assert (exported.format, exported.metadata.library_name) == ("adapter", "peft")
    assert not (tmp_path / "out" / "model.safetensors").exists()
    scalars = load_file(tmp_path / "out" / "contrastive_scalars.safetensors")
    assert {name: x.item() for name, x in scalars.items()} == {"logit_scale": 1.5}
    from peft import PeftModel

    loaded = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    with torch.no_grad():
        found, expected = loaded(**inputs), model(**inputs)
    torch.testing.assert_close(found.image_embeds, expected.image_embeds, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.text_embeds, expected.text_embeds, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_merged_adapter_is_a_plain_model(clip: CLIPModel, tmp_path: Path):
    model = adapted(clip).eval()
    inputs = make_inputs(3)
    with pytest.raises(ValueError, match="written as 'transformers' with `merge=True`"):
        export(model, None, tmp_path / "out", "transformers")
    assert export(model, None, tmp_path / "out", merge=True).format == "transformers"
    with torch.no_grad():
        found, expected = AutoModel.from_pretrained(tmp_path / "out")(**inputs), model(**inputs)
    torch.testing.assert_close(found.image_embeds, expected.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.text_embeds, expected.text_embeds, rtol=0, atol=1e-5)
    # The model itself keeps its adapter.
    assert any("lora" in name for name, _ in model.named_parameters())


# ---- The folder ----


def test_a_folder_is_complete_or_not_there(clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def wrong(*args: Any) -> Any:
        raise DifferentExportError("differs")

    monkeypatch.setattr("hf_contrastive.export.writer.check_same", wrong)
    with pytest.raises(DifferentExportError):
        export(clip, None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from hf_contrastive.export import plain

    fill = plain._fill

    def off(model: Any, name: str, *args: Any) -> None:
        fill(model, name, *args)
        if name == "text_model":
            with torch.no_grad():
                model.text_projection.weight[0] *= 1.01

    monkeypatch.setattr(plain, "_fill", off)
    with pytest.raises(DifferentExportError, match=r"The text embeddings of the export, loaded again, differ by"):
        export(encoder(CASES["clip"].towers), None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_kept(clip: CLIPModel, tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    export(clip, None, folder)
    (folder / "old.txt").write_text("old")
    with pytest.raises(FileExistsError, match="is not empty"):
        export(clip, None, folder)
    with pytest.raises(FileExistsError, match=r"holds other things than a model, so it is not replaced: old.txt\."):
        export(clip, None, folder, overwrite=True)
    assert (folder / "old.txt").read_text() == "old"
    (folder / "old.txt").unlink()
    (folder / "modules.json").write_text("[]")
    export(clip, None, folder, overwrite=True)
    # Of another format, which would be read instead.
    assert not (folder / "modules.json").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="holds no model"):
        export(clip, None, tmp_path / "home", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_all_that_an_export_writes_may_be_replaced(tmp_path: Path):
    model = encoder({"query": "bert", "document": "mpnet", "image": "vit"})
    for _ in range(2):
        export(model, None, tmp_path / "all", overwrite=True)
        export(model, None, tmp_path / "texts", "sentence-transformers", modalities=["query"], overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "texts"]


def test_the_trained_model_is_never_replaced_by_its_export(saved_clip: Path, tmp_path: Path):
    folder = shutil.copytree(saved_clip, tmp_path / "run" / "trained")
    (tmp_path / "run" / "config.json").write_text("{}")
    model = CLIPModel.from_pretrained(folder)
    for target in (folder, tmp_path / "run"):
        with pytest.raises(FileExistsError, match="holds the trained model itself"):
            export(model, None, target, overwrite=True)
        with pytest.raises(FileExistsError, match="holds the trained model itself"):
            export(encoder(CASES["clip"].towers), None, target, card=folder, overwrite=True)
    assert CLIPModel.from_pretrained(folder)


def test_the_folder_one_is_in_is_not_moved_away(clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileExistsError, match="is the one you are in"):
        export(clip, None, ".")


def test_an_interruption_brings_the_old_folder_back(clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export(clip, None, tmp_path / "out")
    moves = []

    def replace(source: Any, target: Any) -> None:
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr("hf_contrastive.export.folders.os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        export(clip, None, tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert CLIPModel.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"), [({"format": "tf"}, "must be one of auto,"), ({"merge": True}, "none")]
)
def test_arguments_that_cannot_be_are_named(arguments: dict[str, Any], message: str, clip: CLIPModel, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        export(clip, None, tmp_path / "out", **arguments)


@pytest.mark.parametrize("modalities", ["text", []])
def test_modalities_are_a_list_of_names(modalities: Any, tmp_path: Path):
    with pytest.raises(ValueError, match=r"must be names of modalities of \['image', 'text'\], but got"):
        export(encoder(CASES["clip"].towers), None, tmp_path / "out", "onnx", modalities=modalities)


def test_a_processor_of_another_make_is_refused(saved_clip: Path, tmp_path: Path):
    processor = AutoProcessor.from_pretrained(saved_clip)
    with pytest.raises(ValueError, match=r"must be a MultiEncoderProcessor for .* but got a CLIPProcessor without"):
        export(encoder(CASES["clip"].towers), processor, tmp_path / "out")


def test_sounds_and_texts_are_no_sentence_transformer(tmp_path: Path):
    export(encoder(CASES["clap"].towers), None, tmp_path / "clap")
    model = AutoModel.from_pretrained(tmp_path / "clap")
    with pytest.raises(InexpressibleError, match="but the model is a ClapModel"):
        export(model, AutoProcessor.from_pretrained(tmp_path / "clap"), tmp_path / "out", "sentence-transformers")


# ---- The card ----


@pytest.mark.parametrize("name", ["clip", "siglip", "vit, bert", "vit, bert mean", "clap"])
def test_the_lines_of_the_card_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    written(name, tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    metadata = export_metadata(tmp_path / "out")
    # The card says `.`, as a place on a disk concerns nobody.
    code = metadata.snippet.replace(str(tmp_path / "out"), ".")
    assert code in card
    assert f"library_name: {metadata.library_name}" in card
    monkeypatch.chdir(tmp_path / "out")
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out
    assert '"me/model"' in export_metadata(tmp_path / "out", "me/model").snippet
