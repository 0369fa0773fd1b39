"""The card of an export is that of the trained model, with what is true of the export's own files."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.export import export, export_metadata
from hf_contrastive.export.figures import without_figures
from hf_contrastive.models import MultiEncoder
from hf_contrastive.report import check_card, front_matter, write_model_card
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.towers import describe_towers
from tests.export.cases import encoder
from tests.report.runs import make_result


def trained(folder: Path) -> MultiEncoder:
    """A model in a folder with a card, as a run leaves it."""
    model = encoder({"image": "clip_vision", "text": "clip_text"})
    model.save_pretrained(folder)
    facts = TrainingFacts(
        dataset="scenes",
        train_rows=64,
        base_model=None,
        modalities=("image", "text"),
        model_type="multi_encoder",
        plain=False,
        towers=describe_towers(model),
    )
    Image.new("RGB", (4, 4)).save(folder / "geometry.png")
    args = ContrastiveTrainingArguments(str(folder), use_cpu=True)
    write_model_card(folder, [make_result("clip")], args, facts, picture="geometry.png")
    return model


def card(folder: Path) -> tuple[dict[str, Any], str]:
    front, body = front_matter.split((folder / "README.md").read_text(encoding="utf-8"))
    return front_matter.load(front), body


def test_it_has_the_figures_of_the_run_and_its_own_lines(tmp_path: Path):
    model = trained(tmp_path / "joined")
    data, body = card(tmp_path / "joined")
    assert (data["library_name"], data["pipeline_tag"]) == ("hf_contrastive", "feature-extraction")
    assert "model.encode_image(" in body
    export(model, None, tmp_path / "plain", card=tmp_path / "joined")
    found, text = card(tmp_path / "plain")
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "zero-shot-image-classification")
    assert found["tags"] == [*data["tags"], "sentence-transformers"]
    assert found["model-index"][0]["results"] == data["model-index"][0]["results"]
    assert text.startswith("<!-- hf_contrastive: intro -->\n# plain\n")
    assert "The files are a `CLIPModel` of `transformers`." in text
    assert 'AutoModel.from_pretrained(".")' in text
    assert "encode_image" not in text
    assert body.partition("## What was measured")[2].partition("<!-- hf_contrastive record")[0] in text
    assert str(tmp_path) not in text
    check_card(tmp_path / "plain")


def test_the_card_of_one_tower_tells_no_figures_of_two(tmp_path: Path):
    model = trained(tmp_path / "joined")
    (tmp_path / "joined" / "metrics.json").write_text("{}")
    data, body = card(tmp_path / "joined")
    export(model, None, tmp_path / "texts", "sentence-transformers", card=tmp_path / "joined", name="me/texts")
    found, text = card(tmp_path / "texts")
    assert {"model-index", "metrics"} & set(data)
    assert not {"model-index", "metrics"} & set(found)
    assert (found["library_name"], found["pipeline_tag"]) == ("sentence-transformers", "sentence-similarity")
    assert "dual-encoder" in data["tags"]
    assert "dual-encoder" not in found["tags"]
    for figure in ("R@1", "gap", "[The table]", "geometry.png", "## What was measured"):
        assert figure in body
        assert figure not in text
    assert "Of these, only `text` is here." in text
    # How it was trained, with the other tower beside it, stays true.
    assert body.partition("## How it was trained")[2].partition("## Limits")[0] in text
    assert "Biases and harms were not examined." in text
    assert sorted(path.name for path in (tmp_path / "texts").glob("*.json") if "metrics" in path.name) == []
    check_card(tmp_path / "texts")


def test_limits_of_other_towers_are_left_out():
    body = (
        "<!-- hf_contrastive: limits -->\n## Limits\n\n- Values of `text` are cut after 9 tokens.\n"
        "- Images of `image` are seen at 8 x 8 pixels.\n<!-- /hf_contrastive: limits -->\n"
    )
    _, found = without_figures({}, body, ["text"])
    assert "`text`" in found
    assert "`image`" not in found


def test_cards_of_all_formats_may_be_shared(tmp_path: Path):
    # The Hub has no task for the pipeline that runs on sounds.
    export(encoder({"audio": "clap_audio", "text": "clap_text"}), None, tmp_path / "clap")
    data, _ = card(tmp_path / "clap")
    assert data["pipeline_tag"] == "feature-extraction"
    assert "zero-shot-audio-classification" in data["tags"]
    check_card(tmp_path / "clap")
    export(encoder({"query": "bert", "document": "mpnet"}), None, tmp_path / "texts")
    assert card(tmp_path / "texts")[0]["pipeline_tag"] == "sentence-similarity"
    check_card(tmp_path / "texts")


@pytest.mark.parametrize(("image", "text", "needs"), [("vit", "clip_text", True), ("clip_vision", "clip_text", False)])
def test_what_older_versions_would_load_anew_is_told(image: str, text: str, needs: bool, tmp_path: Path):
    export(encoder({"image": image, "text": text}, pooling="pooler"), None, tmp_path / "pair")
    assert ("It needs `transformers` 5" in card(tmp_path / "pair")[1]) == needs
    assert '"PreTrainedTokenizerFast"' in (tmp_path / "pair" / "tokenizer_config.json").read_text(encoding="utf-8")


def test_towers_are_counted(tmp_path: Path):
    model = encoder({"image": "vit", "text": "bert", "audio": "ast"})
    export(model, None, tmp_path / "three")
    assert "multi-encoder" in card(tmp_path / "three")[0]["tags"]
    assert "dual-encoder" not in card(tmp_path / "three")[0]["tags"]


def test_a_base_on_somebodys_disk_concerns_nobody(tmp_path: Path):
    settings = {"base_model_name_or_path": str(tmp_path / "base"), "peft_type": "IA3"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    told = export_metadata(tmp_path, "me/adapter")
    assert str(tmp_path) not in told.snippet
    assert "ia3" in told.tags


def test_what_people_wrote_stays_when_it_is_written_again(tmp_path: Path):
    model = trained(tmp_path / "joined")
    export(model, None, tmp_path / "plain", card=tmp_path / "joined")
    readme = tmp_path / "plain" / "README.md"
    text = readme.read_text(encoding="utf-8").replace("No licence was chosen", "Ask Ada; no licence was chosen")
    readme.write_text(text.replace("license: unknown", "license: mit"), encoding="utf-8")
    export(model, None, tmp_path / "plain", "multi_encoder", card=tmp_path / "joined", overwrite=True, name="me/plain")
    data, body = card(tmp_path / "plain")
    assert "Ask Ada" in body
    assert (data["license"], data["library_name"]) == ("mit", "hf_contrastive")
    assert 'AutoModel.from_pretrained("me/plain")' in body
    assert "The files are a `MultiEncoder`" in body


@pytest.mark.parametrize("source", [None, "of another"])
def test_without_a_card_of_ours_it_says_what_it_knows(source: str | None, tmp_path: Path):
    (tmp_path / "of another").mkdir()
    (tmp_path / "of another" / "README.md").write_text("# CLIP\n![x](x.png)\n")
    model = encoder({"image": "vit", "text": "bert"})
    export(model, None, tmp_path / "out", card=None if source is None else tmp_path / source)
    data, body = card(tmp_path / "out")
    assert data["library_name"] == "hf_contrastive"
    assert "was not told" in body
    assert "the pooling of 'text' is 'mean'" in body
    check_card(tmp_path / "out")


def test_a_card_brings_no_files_from_elsewhere(tmp_path: Path):
    model = trained(tmp_path / "joined")
    (tmp_path / "secret.png").write_bytes(b"x")
    readme = tmp_path / "joined" / "README.md"
    text = readme.read_text(encoding="utf-8").replace(
        "](geometry.png)", f"](../secret.png) ![y]({tmp_path}/secret.png)"
    )
    readme.write_text(text, encoding="utf-8")
    export(model, None, tmp_path / "plain", card=tmp_path / "joined")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["geometry.png", "secret.png"]
