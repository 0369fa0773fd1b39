"""A generated card over one that people edited: theirs stays, ours is renewed."""

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_contrastive.report.merging import PLACEHOLDER, merge_cards, seal


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


def make_card(blocks: dict[str, str], **data: Any) -> str:
    body = "\n\n".join(
        f"<!-- hf_contrastive: {name} -->\n{text}\n<!-- /hf_contrastive: {name} -->" for name, text in blocks.items()
    )
    front = yaml.safe_dump({"license": "unknown", "tags": ["a", "b"]} | data, sort_keys=False)
    return seal(f"---\n{front}---\n{body}\n")


OLD = make_card({"intro": "# one", "results": "1.0", "limits": "none"})
NEW = make_card({"intro": "# two", "results": "2.0", "limits": "none"}, tags=["a", "c"])


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_that_nobody_edited_becomes_the_new_one():
    merged = merge_cards(OLD, NEW)
    assert merged.text == NEW
    assert merged.kept == ()


def test_the_same_card_again_changes_nothing():
    assert merge_cards(NEW, NEW).text == NEW


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_what_stands_between_sections_stays_in_its_place(line_break: str):
    old = OLD.replace("<!-- hf_contrastive: results -->", "## Mine\n\nWords.\n\n<!-- hf_contrastive: results -->")
    merged = merge_cards(old.replace("\n", line_break), NEW)
    text = merged.text
    assert text.index("# two") < text.index("## Mine\n\nWords.") < text.index("2.0")
    assert merged.kept == ()


def test_an_edited_section_stays_and_is_told():
    merged = merge_cards(OLD.replace("1.0", "1.0, they say"), NEW)
    assert "1.0, they say" in merged.text
    assert "2.0" not in merged.text
    assert "# two" in merged.text
    (sentence,) = merged.kept
    assert "'results' was edited" in sentence


def test_an_edit_is_still_known_as_one_at_the_third_writing():
    edited = merge_cards(OLD.replace("1.0", "1.0, they say"), NEW).text
    third = merge_cards(edited, make_card({"intro": "# three", "results": "3.0", "limits": "none"}))
    assert "1.0, they say" in third.text
    assert "# three" in third.text
    assert len(third.kept) == 1


def test_a_section_that_was_removed_stays_away():
    block = "<!-- hf_contrastive: limits -->\nnone\n<!-- /hf_contrastive: limits -->"
    merged = merge_cards(OLD.replace(block, ""), NEW)
    assert "hf_contrastive: limits" not in merged.text
    assert any("'limits' was removed" in sentence for sentence in merged.kept)


def test_a_new_section_comes_after_the_one_before_it():
    new = make_card({"intro": "# two", "plots": "plots", "results": "2.0", "limits": "none"})
    merged = merge_cards(OLD, new)
    assert merged.text.index("# two") < merged.text.index("plots") < merged.text.index("2.0")
    assert merged.kept == ()


def test_a_section_that_is_generated_no_longer_goes_unless_it_was_edited():
    new = make_card({"intro": "# two", "limits": "none"})
    assert "1.0" not in merge_cards(OLD, new).text
    assert "1.0!" in merge_cards(OLD.replace("1.0", "1.0!"), new).text


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


def test_a_card_of_another_making_comes_first_and_whole():
    old = "---\nlicense: mit\ntags: [theirs]\n---\n# Theirs\n\nText.\n"
    merged = merge_cards(old, NEW)
    assert merged.text.index("# Theirs\n\nText.\n") < merged.text.index("# two") < merged.text.index("2.0")
    assert front(merged.text)["license"] == "mit"
    assert set(front(merged.text)["tags"]) == {"a", "c", "theirs"}


def test_the_placeholder_of_the_trainer_is_replaced():
    old = f"---\nlicense: mit\n---\n<!-- {PLACEHOLDER} You should probably proofread it. -->\n# x\n"
    assert merge_cards(old, NEW).text == NEW


@pytest.mark.parametrize("broken", ["{not json", '{"blocks": 3}'])
def test_without_a_readable_record_all_is_kept(broken: str):
    head, _, tail = OLD.partition("record: ")
    old = f"{head}record: {broken}}} -->\n"
    assert tail
    merged = merge_cards(old, NEW)
    assert "# one" in merged.text
    assert "# two" not in merged.text
    assert len([sentence for sentence in merged.kept if "was edited" in sentence]) == 2


def test_metadata_that_cannot_be_read_is_an_error_with_the_place():
    with pytest.raises(ValueError, match="The key 'license' stands twice, the second time in line 2"):
        merge_cards("---\nlicense: mit\nlicense: bsd\n---\n", NEW)
