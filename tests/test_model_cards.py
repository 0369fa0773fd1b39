"""The finished cards: valid, whole, and with the figures that were measured."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hf_contrastive.report import check_card, read_results
from hf_contrastive.report.merging import BLOCK, merge_cards


FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "model_cards").glob("*/README.md"))


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_finished_card_is_one_that_can_be_shared(folder: Path):
    check_card(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert {match["name"] for match in BLOCK.finditer(text)} == {
        *("intro", "use", "results", "objective", "training", "limits", "license", "citation")
    }
    # Nothing in it was edited: the next one will replace all of it.
    assert merge_cards(text, text).kept == ()


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_its_figures_are_those_that_were_measured(folder: Path):
    own, *others = read_results(folder / "metrics.json")
    text = (folder / "README.md").read_text(encoding="utf-8")
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert results is not None
    assert own.before is not None
    for result in results:
        assert result.metric_value == pytest.approx(own.metrics[result.metric_name], abs=5e-5)
    columns = [own.before, own.metrics, *(other.metrics for other in others)]
    for direction in ("image to text", "text to image"):
        (row,) = re.findall(rf"^\| {direction}, R@1 .*$", text, re.MULTILINE)
        values = [float(cell) for cell in row.strip("|").split("|")[1:]]
        key = f"retrieval/{direction.replace(' ', '_')}_recall@1"
        assert values == pytest.approx([column[key] for column in columns], abs=5e-4)


def test_there_is_a_finished_card():
    assert "clip_decoupled" in [folder.name for folder in FOLDERS]
