"""Tokens and local paths stay here."""

from pathlib import Path

import pytest

from hf_contrastive.report.privacy import privacy_faults, scrub
from tests.report.runs import write_card


TOKEN = "hf_" + "aB3d" * 9


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"token {TOKEN}.", "token (token)."),
        ("from /home/alice/data/x.parquet, so", "from (local path), so"),
        ("('~/models/clip')", "('(local path)')"),
        (r"C:\Users\Alice\x.bin here", "(local path) here"),
        ("/root/x", "(local path)"),
        ("https://alice:pass@x.org/a.tar", "https://x.org/a.tar"),
    ],
)
def test_tokens_and_paths_are_replaced(text: str, clean: str):
    assert scrub(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/papers/2103.00020 and http://x.org/a/b/c",
        "![plot](geometry.png) [x](docs/a.md)",
        "<!-- /hf_contrastive: intro --> </div> image/text 1 / 14.3 openai/clip-vit-base-patch32",
        r"\frac{1}{2} \log \sum_j e^{s\, x_i \cdot y_j}",
        "hf_contrastive uses hf_hub",
    ],
)
def test_what_is_neither_stays(text: str):
    assert scrub(text) == text


def test_secrets_of_any_form_are_removed():
    assert scrub("a short-secret b", secrets=["short-secret", None, ""]) == "a (removed) b"


def test_the_own_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert scrub(f"at {tmp_path}") == "at (local path)"
    (fault,) = privacy_faults(f"at {tmp_path}/x")
    assert str(tmp_path) in fault


def test_a_token_is_told_without_being_repeated():
    (fault,) = privacy_faults(f"one\ntwo {TOKEN}\n")
    assert "Line 2" in fault
    assert TOKEN not in fault
    assert TOKEN[:8] not in fault


def test_paths_that_people_write_of_elsewhere_are_theirs():
    assert privacy_faults("put it into /data/images/train") == []


def test_the_card_names_nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "alice")
    token = "hf_" + "a1B2" * 8
    text = write_card(
        home / "runs",
        loss=f"MyLoss(table='{home}/secret.json', other='/srv/data/alice/x.bin')",
        dataset=str(home / "pairs.parquet"),
        base_model=str(home / "clip"),
        hub_token=token,
        run_name=token,
    )
    assert "alice" not in text
    assert str(tmp_path) not in text
    assert token not in text
    assert "pairs.parquet" in text
    assert "MyLoss(table='(local path)', other='(local path)')" in text


def test_a_folder_that_is_called_as_its_owner_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "alice")
    (tmp_path / "alice").mkdir()
    assert "alice" not in write_card(tmp_path, dataset=str(tmp_path / "alice"))
