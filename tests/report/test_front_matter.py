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
