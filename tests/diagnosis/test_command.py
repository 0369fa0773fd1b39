"""The command line: what it prints, what it writes, how it says no."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_contrastive.command import main, make_parser
from hf_contrastive.diagnosis import command
from hf_contrastive.diagnosis.command import check_can_write
from tests.conftest import make_pairs
from tests.diagnosis.conftest import clouds


@pytest.fixture
def files(tmp_path: Path, quick: None) -> list[str]:
    for m, x in clouds(rows=24).items():
        np.save(tmp_path / f"{m}.npy", x.numpy())
    return [str(tmp_path / "image.npy"), str(tmp_path / "text.npy")]


def test_files_are_diagnosed_without_a_model(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["diagnose", *files, "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out.strip()
    assert printed.startswith(
        "image.npy + text.npy: 24 rows, width 8\n\nFindings\n\nWARNING The centers of image and text are"
    )
    assert "\n        -> Where both modalities are ranked in one index, close it" in printed
    assert "mean shift" in printed
    written = [
        tmp_path / "out" / name for name in printed.rpartition(f"\nWritten to {tmp_path / 'out'}: ")[2].split(", ")
    ]
    assert [path.name for path in written[:3]] == ["diagnosis.json", "index.html", "gap_image_text.png"]
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert all(path.stat().st_size > 1000 for path in written)
    assert json.loads(written[0].read_text())["rows"] == 24
    assert f"hf-contrastive diagnose {' '.join(files)} --output {tmp_path / 'out'}</pre>" in written[1].read_text()


def test_a_model_is_compared_on_the_rows_of_a_dataset(
    quick: None, saved_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_pairs(24).to_parquet(tmp_path / "pairs.parquet")
    options = ["--dataset", str(tmp_path / "pairs.parquet"), "--split", "train", "--num_rows", "16"]
    options += ["--cache_dir", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
    main(["diagnose", str(saved_clip), "--compare", str(saved_clip), *options])
    printed = capsys.readouterr().out
    assert (
        f"{saved_clip}: 16 of 24 rows of the train split of the dataset '{tmp_path / 'pairs.parquet'}', width 8"
        in printed
    )
    assert printed.count("Findings: ") == 2
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert found["metrics"] == found["compared"]["metrics"]


def test_pictures_are_left_out_aloud_without_matplotlib(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    main(["diagnose", *files, "--output", str(tmp_path / "out")])
    assert "No plots: they need matplotlib, `pip install hf-contrastive[recipes]`." in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["diagnosis.json", "index.html"]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("hf_contrastive.diagnosis.diagnosis.diagnose", None)
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(SystemExit):
            main(["diagnose", "images.npy", "texts.npy", "--output", str(folder)])
        assert f"`output` must be a folder to write into, but is '{folder}': " in capsys.readouterr().err
    monkeypatch.setattr(command.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="may not be written by you"):
        check_can_write(tmp_path / "new")


def test_rows_that_were_drawn_stand_beside_all_rows(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(["diagnose", *files, "--num_rows", "20", "--output", str(tmp_path / "out")])
    assert "image.npy + text.npy: 20 of 24 rows, width 8" in capsys.readouterr().out
    assert '<p class="about">20 of 24 rows, width 8</p>' in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["./nowhere"], "hf-contrastive: `model` is the path './nowhere', where there is nothing."),
        (["images.npy", "texts.npy"], "hf-contrastive: There is no file 'images.npy'."),
        (["images.pt", "texts.pt"], "hf-contrastive: Give one model, or files of embeddings"),
        (["images.npy", "texts.npy", "--num_rows", "1"], "hf-contrastive: `num_rows` must be at least 2, but got 1."),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", *arguments])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(message)
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_script_of_the_package(capsys: pytest.CaptureFixture[str]):
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'hf-contrastive = "{main.__module__}:{main.__name__}"' in text
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", "--help"])
    assert ended.value.code == 0
    assert "hf-contrastive diagnose images.npy texts.npy" in capsys.readouterr().out


def test_without_a_command_the_commands_are_shown(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main([])
    told = capsys.readouterr().err
    assert [name for name in ("diagnose", "export", "push") if f"\n    {name} " in told] == [
        "diagnose",
        "export",
        "push",
    ]


def test_columns_are_a_json_object(capsys: pytest.CaptureFixture[str]):
    given = make_parser().parse_args(["diagnose", "folder", "--columns", '{"query": "question"}'])
    assert given.columns == {"query": "question"}
    with pytest.raises(SystemExit):
        make_parser().parse_args(["diagnose", "folder", "--columns", "question"])
    assert "must be a JSON object of columns by modality, but got 'question'" in capsys.readouterr().err
