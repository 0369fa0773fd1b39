"""What keeps a folder from being shared."""

from pathlib import Path

import pytest

from hf_contrastive.report import check_card


GOOD = "---\nlicense: mit\n---\n# x\n\n![plot](a.png)\n"


def write(folder: Path, text: str) -> None:
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "a.png").write_bytes(b"x")


def test_a_good_folder_passes(tmp_path: Path):
    write(tmp_path, GOOD)
    check_card(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: mit", "license: MIT", r"`license` is 'MIT'.*Did you mean 'mit'"),
        ("license: mit", "license: mit\nlicense: bsd", "stands twice"),
        ("license: mit", "license: [", "not valid YAML"),
        ("---\nlicense: mit\n---\n", "", "no metadata at its top"),
        ("# x", "# x" + " " * (11 << 20), "It has 11 MiB, of which the Hub takes 10"),
        ("a.png", "b.png", "'b.png', which is no file of the folder"),
        ("# x", "# hf_" + "a1B2" * 8, "looks like a token"),
    ],
)
def test_a_fault_is_told_before_the_upload(tmp_path: Path, old: str, new: str, message: str):
    write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message):
        check_card(tmp_path)


def test_a_folder_without_a_card_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no README\.md"):
        check_card(tmp_path)


def test_scores_are_checked_too(tmp_path: Path):
    write(tmp_path, GOOD)
    (tmp_path / ".eval_results").mkdir()
    (tmp_path / ".eval_results" / "x.yaml").write_text("- value: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.yaml: `\[0\]\.dataset\.id` is None"):
        check_card(tmp_path)


def test_files_that_cannot_be_read_are_told(tmp_path: Path):
    write(tmp_path, GOOD)
    (tmp_path / ".eval_results").mkdir()
    (tmp_path / ".eval_results" / "x.yaml").write_text("- [\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.yaml: It cannot be read"):
        check_card(tmp_path)
    (tmp_path / "README.md").write_bytes(GOOD.replace("# x", "# ö").encode("latin-1"))
    with pytest.raises(ValueError, match="not in UTF-8: line 4"):
        check_card(tmp_path)
