"""Metadata of a generated card over that which people edited, entry by entry."""

from typing import Any

import yaml
from huggingface_hub import ModelCard

from hf_contrastive.report.merging import merge_cards
from tests.report.test_merging import NEW, OLD, front, make_card


def index(*measures: tuple[str, float]) -> list[dict[str, Any]]:
    metrics = [{"type": name, "value": value, "name": name} for name, value in measures]
    return [
        {
            "name": "model",
            "results": [
                {"task": {"type": "retrieval"}, "dataset": {"type": "scenes", "name": "scenes"}, "metrics": metrics}
            ],
        }
    ]


def test_added_metadata_stays_with_its_comments():
    old = OLD.replace("license: unknown\n", "# ours since May\nthumbnail: me.png  # square\nlicense: unknown\n")
    text = merge_cards(old, NEW).text
    assert "# ours since May\nthumbnail: me.png  # square\n" in text
    assert front(text)["tags"] == ["a", "c"]


def test_edited_metadata_stays_and_is_told():
    new = make_card({"intro": "# two"}, license="mit")
    merged = merge_cards(OLD.replace("license: unknown", "license: apache-2.0"), new)
    assert front(merged.text)["license"] == "apache-2.0"
    assert any("`license` is kept as 'apache-2.0', not 'mit'" in sentence for sentence in merged.kept)


def test_metadata_that_nobody_edited_is_renewed_or_goes():
    new = make_card({"intro": "# two"}, license="mit", datasets=["x/y"])
    assert front(merge_cards(OLD, new).text) == {"license": "mit", "tags": ["a", "b"], "datasets": ["x/y"]}
    assert "datasets" not in front(merge_cards(new, OLD).text)


def test_removed_metadata_stays_away():
    merged = merge_cards(OLD.replace("license: unknown\n", ""), NEW)
    assert "license" not in front(merged.text)
    assert any("`license` was removed" in sentence for sentence in merged.kept)


def test_tags_are_merged_one_by_one():
    old = OLD.replace("- a\n- b\n", "- b\n- mine\n")
    merged = merge_cards(old, make_card({"intro": "# two"}, tags=["a", "b", "c"]))
    assert front(merged.text)["tags"] == ["b", "c", "mine"]
    assert any("a was removed" in sentence for sentence in merged.kept)


def test_results_are_merged_one_by_one():
    old = make_card({"intro": "x"}, **{"model-index": index(("R@1", 0.1), ("R@5", 0.2))})
    new = make_card({"intro": "x"}, **{"model-index": index(("R@1", 0.3), ("R@5", 0.4))})
    edited = old.replace("      value: 0.2\n", "      value: 0.25\n").replace(
        "    metrics:\n", "    metrics:\n    - type: theirs\n      value: 7\n      name: theirs\n"
    )
    assert edited.count("theirs") == 2
    merged = merge_cards(edited, new)
    results = ModelCard(merged.text).data.eval_results
    assert results is not None
    values = {result.metric_name: result.metric_value for result in results}
    assert values == {"R@1": 0.3, "R@5": 0.25, "theirs": 7}
    assert any("R@5 on scenes is kept as it was edited" in sentence for sentence in merged.kept)


def test_results_that_were_edited_into_something_else_stay_whole():
    old = make_card({"intro": "x"}, **{"model-index": index(("R@1", 0.1))})
    data = front(old)
    data["model-index"][0]["note"] = "do not touch"
    edited = f"---\n{yaml.safe_dump(data)}---\n{old.split('---', 2)[2]}"
    merged = merge_cards(edited, make_card({"intro": "x"}, **{"model-index": index(("R@1", 0.3))}))
    assert front(merged.text)["model-index"] == data["model-index"]
    assert any(sentence.startswith("`model-index` is kept") for sentence in merged.kept)
