"""The model card: its metadata, its numbers, its code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.report import geometry_table, result_table, write_model_card
from hf_contrastive.report.card import TrainingFacts, usage_snippet
from tests.report.runs import METRICS, make_result


FACTS = {
    "dataset": "embedded scenes",
    "train_rows": 640,
    "base_model": None,
    "modalities": ("image", "text"),
    "model_type": "clip",
}


def write(folder: Path, *, loss: str = "CLIP(chunk_size=None)", **changed: Any) -> str:
    """The text of a card; `changed` are facts, arguments and `picture`."""
    facts = TrainingFacts(**FACTS | {name: changed.pop(name) for name in FACTS if name in changed})
    results = [make_result("clip", loss=loss), make_result("clip_divergence", shift=0.1)]
    picture = changed.pop("picture", None)
    args = ContrastiveTrainingArguments(str(folder / "output"), use_cpu=True, **changed)
    write_model_card(folder, results, args, facts, picture=picture)
    return (folder / "README.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_names_library_pipeline_and_loss(tmp_path: Path):
    front = front_matter(write(tmp_path))
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "zero-shot-image-classification"
    assert {"hf_contrastive", "loss:clip"} <= set(front["tags"])
    assert "base_model" not in front


def test_front_matter_names_the_base_model(tmp_path: Path):
    text = write(tmp_path, base_model="openai/clip-vit-base-patch32")
    assert front_matter(text)["base_model"] == "openai/clip-vit-base-patch32"
    assert (
        "fine-tuned from [openai/clip-vit-base-patch32](https://huggingface.co/openai/clip-vit-base-patch32)" in text
    )


def test_a_folder_is_no_base_model(tmp_path: Path):
    text = write(tmp_path, base_model="/home/me/models/clip")
    assert "base_model" not in front_matter(text)
    assert "huggingface.co//home" not in text


def test_models_without_zero_shot_pipeline_are_feature_extractors(tmp_path: Path):
    front = front_matter(write(tmp_path, model_type="vision-text-dual-encoder"))
    assert front["pipeline_tag"] == "feature-extraction"


def test_the_numbers_of_the_model_index_are_those_measured(tmp_path: Path):
    write(tmp_path)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert results is not None
    measured = {name: value for name, value in METRICS.items() if name.startswith(("retrieval/", "geometry/modality"))}
    assert {result.metric_name: result.metric_value for result in results} == pytest.approx(measured, abs=5e-5)
    assert {result.dataset_name for result in results} == {"embedded scenes"}


def test_the_card_holds_the_table_of_all_runs(tmp_path: Path):
    results = [make_result("clip"), make_result("clip_divergence", shift=0.1)]
    assert result_table(results) in write(tmp_path)


def test_the_card_has_all_geometry_folded_away(tmp_path: Path):
    results = [make_result("clip"), make_result("clip_divergence", shift=0.1)]
    text = write(tmp_path)
    start, end = text.index("<details>"), text.index("</details>")
    assert geometry_table(results) in text[start:end]
    assert "hubs are of" not in text, "These results do not say how many rows were sampled."


def test_the_card_says_how_many_rows_were_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "geometry/quadratic_rows_image", 2048.0)
    monkeypatch.setitem(METRICS, "geometry/gaussianity_rows_text", 1000.0)
    text = write(tmp_path)
    assert "Energy distance, divergence and hubs are of 2048 rows." in text
    assert "The shape was tested on 1000 rows." in text


def test_the_card_says_how_the_model_was_trained(tmp_path: Path):
    text = write(tmp_path, learn_logit_scale=False, learning_rate=3e-4, weight_decay=0.1)
    for line in (
        "| objective | `CLIP(chunk_size=None)` ([paper](https://huggingface.co/papers/",
        "| data | embedded scenes, 640 training pairs |",
        "| steps | 20, a global batch of 16 pairs: 15 negatives per row |",
        "| temperature | 1 / 50.0 at the end, fixed |",
        "peak learning rate 0.0003, weight decay 0.1 |",
        "| seed | 3 |",
    ):
        assert line in text


@pytest.mark.parametrize("picture", [None, "geometry.png"])
def test_the_picture_is_shown_if_there_is_one(tmp_path: Path, picture: str | None):
    assert ("](geometry.png)" in write(tmp_path, picture=picture)) == (picture is not None)


def test_no_template_syntax_is_left(tmp_path: Path):
    assert not re.search(r"\{\{|\}\}|\{%|%\}|None,|Undefined", write(tmp_path))


def test_the_card_is_called_as_on_the_hub(tmp_path: Path):
    text = write(tmp_path, hub_model_id="tester/scenes")
    assert "# scenes\n" in text
    assert 'from_pretrained("tester/scenes")' in text


@pytest.mark.parametrize("loss", ["MyLoss(weight=1.0)", "my.module.<locals>.loss", "<function loss at 0x7f>"])
def test_a_loss_of_the_authors_own_is_no_obstacle(tmp_path: Path, loss: str):
    text = write(tmp_path, loss=loss)
    assert "loss:custom" in front_matter(text)["tags"]
    assert "a loss of the author's own" in text


def test_a_loss_of_the_authors_own_cites_no_paper(tmp_path: Path):
    assert "1807.03748" not in write(tmp_path, loss="MyLoss(weight=1.0)")


@pytest.mark.parametrize("name", ["pairs: 'quoted' #1", "größer | kleiner", "{{ braces }}"])
def test_odd_names_of_data_keep_the_front_matter_valid(tmp_path: Path, name: str):
    front = front_matter(write(tmp_path, dataset=name))
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_the_code_of_the_card_runs(saved_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = write(tmp_path, hub_model_id=str(saved_clip))
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    exec(code[1], {})
    printed = capsys.readouterr().out
    assert printed.startswith("tensor([[0.")
    assert code[1].strip() == usage_snippet(str(saved_clip))


@pytest.mark.parametrize("folder", ["it's", 'a "quoted" one', "back\\slash"])
def test_the_code_is_python_whatever_the_folder(folder: str):
    code = usage_snippet(folder)
    names = [constant for constant in compile(code, "card", "exec").co_consts if isinstance(constant, str)]
    assert folder in names
