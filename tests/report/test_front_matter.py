"""The metadata at the top of a card."""

import pytest
import yaml

from hf_contrastive.report import front_matter


def test_a_card_is_parted_at_its_dashes():
    assert front_matter.split("---\na: 1\n---\n# x\n---\n") == ("a: 1\n", "# x\n---\n")
    assert front_matter.split("# x\n") == ("", "# x\n")
    assert front_matter.split("---\r\na: 1\r\n---\r\nx\r\n") == ("a: 1\n", "x\n")


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' stands twice, the second time in line 3"),
        ("a:\n  b: 1\n  b: 2\n", "'b' stands twice"),
        ("a: [1\n", "not valid YAML"),
        ("- a\n", "must be `name: value` lines, but is a list"),
    ],
)
def test_what_cannot_be_read_is_an_error(front: str, message: str):
    with pytest.raises(ValueError, match=message):
        front_matter.load(front)


def test_unchanged_keys_keep_their_lines():
    front = "# top\ntags: [a,   b]  # two\n# of mit\nlicense: mit\nlist:\n- 1\n# inside\n- 2\n"
    data = front_matter.load(front) | {"license": "bsd", "new": "ä"}
    text = front_matter.dump(data, front)
    assert yaml.safe_load(text) == data
    assert "# top\ntags: [a,   b]  # two\n" in text
    assert "list:\n- 1\n# inside\n- 2\n" in text
    assert "license: bsd\n" in text
    assert "new: ä\n" in text


def test_a_quoted_key_is_known():
    front = '"model-index": []\nx: 1\n'
    assert front_matter.dump({"model-index": [], "x": 2}, front) == '"model-index": []\nx: 2\n'


def test_metadata_is_written_where_there_was_none():
    assert front_matter.dump({"license": "mit"}) == "license: mit\n"


def test_the_mark_of_some_editors_is_no_part_of_a_card():
    assert front_matter.split(front_matter.decode("\ufeff---\na: 1\n---\n".encode())) == ("a: 1\n", "")


def test_other_encodings_are_told_with_the_line():
    with pytest.raises(ValueError, match="not in UTF-8: line 2 holds the byte 0xf6"):
        front_matter.decode("# x\ngrö".encode("latin-1"))


def test_keys_that_share_a_value_are_rewritten_without_it():
    front = "a: &it [1]\nb: *it\nc: 1\n"
    text = front_matter.dump({"a": [1], "b": [1], "c": 2}, front)
    assert yaml.safe_load(text) == {"a": [1], "b": [1], "c": 2}


def test_a_key_that_is_a_list_is_no_crash():
    with pytest.raises(ValueError, match="not valid YAML"):
        front_matter.load("? [a]\n: 1\n")
