"""What `load_pairs` makes of a name: the file or folder behind it, and the splits of a run."""

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from hf_contrastive.data import PairSplits, load_pairs
from hf_contrastive.data.loading import load_examples
from tests.conftest import COLORS, make_pairs, picture


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these tests stays in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def texts(rows: Any) -> list[str]:
    return [row["text"] for row in rows.__getitems__(range(len(rows)))]


def sizes(splits: PairSplits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.validation), len(splits.test)


def saved(folder: Path, **rows: int) -> str:
    """A folder with splits of these sizes, whose captions differ."""
    parts, start = {}, 0
    for split, number in rows.items():
        parts[split] = make_pairs(start + number).select(range(start, start + number))
        start += number
    DatasetDict(parts).save_to_disk(folder)
    return str(folder)


# ---- Places ----


def test_a_parquet_file(tmp_path: Path):
    make_pairs(20).to_parquet(tmp_path / "pairs.parquet")
    splits = load_pairs(str(tmp_path / "pairs.parquet"))
    assert sizes(splits) == (18, 2, 2)
    assert splits.train[0]["image"].mode == "RGB"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_json_file_with_paths_of_images(tmp_path: Path, suffix: str):
    rows = []
    for number, name in enumerate(COLORS):
        (tmp_path / f"{name}.png").write_bytes(picture(name))
        rows.append({"image": str(tmp_path / f"{name}.png"), "text": f"{name} {number}"})
    (tmp_path / f"pairs{suffix}").write_text("\n".join(map(json.dumps, rows)))
    splits = load_pairs(str(tmp_path / f"pairs{suffix}"))
    assert sizes(splits) == (7, 1, 1)
    assert sorted(texts(splits.train) + texts(splits.test)) == sorted(row["text"] for row in rows)
    assert splits.train[0]["image"].size == (16, 16)


def test_a_csv_file_with_paths_of_images(tmp_path: Path):
    (tmp_path / "red.png").write_bytes(picture("red"))
    rows = [f"{tmp_path / 'red.png'},number {row}" for row in range(4)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]))
    assert sizes(load_pairs(str(tmp_path / "pairs.csv"))) == (3, 1, 1)


def test_a_folder_of_parquet_files_with_splits_in_their_names(tmp_path: Path):
    make_pairs(12).to_parquet(tmp_path / "train-00000.parquet")
    make_pairs(5).to_parquet(tmp_path / "test-00000.parquet")
    splits = load_pairs(str(tmp_path))
    assert sizes(splits) == (12, 5, 5)
    assert splits.test[4]["text"] == "a black picture number 4"


def test_a_saved_dataset(tmp_path: Path):
    make_pairs(20).save_to_disk(tmp_path / "saved")
    assert sizes(load_pairs(str(tmp_path / "saved"))) == (18, 2, 2)


def test_saved_splits(tmp_path: Path):
    assert sizes(load_pairs(saved(tmp_path, train=8, validation=3, test=2))) == (8, 3, 2)


# `datasets` 5.2 leaves the metadata file open until the garbage collector finds it.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("loader", [False, True], ids=["folder", "imagefolder"])
def test_a_folder_of_images_with_metadata(tmp_path: Path, loader: bool):
    rows = [f"{name}.png,a {name} picture" for name in COLORS]
    for name in COLORS:
        (tmp_path / f"{name}.png").write_bytes(picture(name))
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,caption", *rows]))
    splits = load_pairs("imagefolder", data_dir=str(tmp_path)) if loader else load_pairs(str(tmp_path))
    assert sizes(splits) == (7, 1, 1)
    assert sorted(texts(splits.train) + texts(splits.test)) == sorted(f"a {name} picture" for name in COLORS)
    red = next(row for rows in (splits.train, splits.test) for row in rows if row["text"] == "a red picture")
    assert red["image"].getpixel((0, 0))[0] > 200
    gc.collect()


def test_the_home_folder_may_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_pairs(4).to_parquet(tmp_path / "pairs.parquet")
    assert sizes(load_pairs("~/pairs.parquet")) == (3, 1, 1)


# ---- Splits ----


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train": 9, "validation": 4, "test": 3}, (9, 4, 3)),
        ({"train": 9, "test": 3}, (9, 3, 3)),
        ({"train": 9, "validation": 4}, (9, 4, 4)),
        ({"train": 9, "val": 4}, (9, 4, 4)),
        ({"train": 9, "dev": 4, "extra": 2}, (9, 4, 4)),
        ({"train": 20, "extra": 2}, (18, 2, 2)),
        ({"train": 3}, (2, 1, 1)),
    ],
    ids=str,
)
def test_splits_stand_in_for_each_other(tmp_path: Path, given: dict[str, int], expected: tuple[int, int, int]):
    assert sizes(load_pairs(saved(tmp_path, **given))) == expected


def test_named_splits_win(tmp_path: Path):
    folder = saved(tmp_path, train=9, validation=4, test=3, small=5, hard=2)
    splits = load_pairs(folder, train_split="small", validation_split="train", test_split="hard")
    assert sizes(splits) == (5, 9, 2)
    assert splits.test.name == f"hard split of the dataset {folder!r}"


def test_held_out_rows_are_disjoint_from_training_and_the_same_for_every_seed(tmp_path: Path):
    folder = saved(tmp_path, train=40)
    splits, again, other = (load_pairs(folder, seed=seed) for seed in (0, 0, 1))
    assert sizes(splits) == (36, 4, 4)
    assert texts(splits.validation) == texts(splits.test)
    assert sorted(texts(splits.train) + texts(splits.test)) == sorted(make_pairs(40)["caption"])
    assert texts(again.test) == texts(splits.test)
    assert texts(again.train) == texts(splits.train)
    assert texts(other.test) == texts(splits.test)


def test_training_draws_captions_and_tests_read_the_first(tmp_path: Path):
    make_pairs(20, many_captions=True).save_to_disk(tmp_path / "saved")
    splits = load_pairs(str(tmp_path / "saved"))
    assert (splits.train.draw, splits.validation.draw, splits.test.draw) == (True, False, False)


def test_columns_are_passed_on(tmp_path: Path):
    renamed = make_pairs(20).rename_columns({"image": "photo", "caption": "alt"})
    renamed.save_to_disk(tmp_path / "saved")
    splits = load_pairs(str(tmp_path / "saved"), image_column="photo", caption_column="alt")
    assert splits.test[0]["text"].startswith("a ")


def test_where_keeps_the_true_rows_of_every_split(tmp_path: Path):
    parts = {}
    for split, number in (("train", 8), ("test", 6)):
        parts[split] = make_pairs(number).add_column("good", [row % 2 == 0 for row in range(number)])
    DatasetDict(parts).save_to_disk(tmp_path)
    splits = load_pairs(str(tmp_path), where="good")
    assert sizes(splits) == (4, 3, 3)
    assert texts(splits.test) == [f"a {COLORS[row]} picture number {row}" for row in (0, 2, 4)]


def test_max_test_rows_keeps_the_first_rows_of_validation_and_test(tmp_path: Path):
    folder = saved(tmp_path, train=9, validation=2, test=6)
    splits = load_pairs(folder, max_test_rows=4)
    assert sizes(splits) == (9, 2, 4)
    assert texts(splits.test) == texts(load_pairs(folder).test)[:4]


# ---- Errors ----


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/pairs.parquet", "~/nowhere-at-all"])
def test_a_path_where_there_is_nothing_is_refused(path: str):
    with pytest.raises(FileNotFoundError, match=f"`dataset` is the path '{path}', where there is nothing"):
        load_pairs(path)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str):
    (tmp_path / f"pairs.{suffix}").touch()
    with pytest.raises(ValueError, match=r"`dataset` is the file '.*', which is empty"):
        load_pairs(str(tmp_path / f"pairs.{suffix}"))


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"`dataset` is the folder '.*', which is empty"):
        load_pairs(str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "pairs.xlsx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pairs.xlsx'; files must end in .parquet, .json, .jsonl, .csv"):
        load_pairs(str(tmp_path / "pairs.xlsx"))


@pytest.mark.parametrize("argument", ["train_split", "validation_split", "test_split"])
def test_an_unknown_split_is_answered_with_the_known(tmp_path: Path, argument: str):
    folder = saved(tmp_path, train=4, test=2)
    with pytest.raises(ValueError, match=r"The dataset '.*' has no split 'dev'. Its splits: \['test', 'train'\]"):
        load_pairs(folder, **{argument: "dev"})


@pytest.mark.parametrize("column", ["good", "caption"])
def test_where_must_name_a_boolean_column(tmp_path: Path, column: str):
    folder = saved(tmp_path, train=4)
    with pytest.raises(
        ValueError, match=f"`where` must name a boolean column of the dataset '.*', but got '{column}'"
    ):
        load_pairs(folder, where=column)


def test_where_nothing_is_left_the_split_is_named(tmp_path: Path):
    parts = {split: make_pairs(4).add_column("good", [split == "train"] * 4) for split in ("train", "test")}
    DatasetDict(parts).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"The test split of the dataset '.*' is empty: it has the columns"):
        load_pairs(str(tmp_path), where="good")


def test_a_single_row_cannot_be_split(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has 1 rows in its only split: too few to hold some out"):
        load_pairs(saved(tmp_path, train=1))


def test_a_missing_column_is_reported_with_split_and_dataset(tmp_path: Path):
    with pytest.raises(ValueError, match=r"The train split of the dataset '.*' has no image column 'photo'"):
        load_pairs(saved(tmp_path, train=4), image_column="photo")


def test_an_undecodable_image_is_named_by_its_row_of_the_split(tmp_path: Path):
    pairs = make_pairs(4).cast_column("image", Image(decode=False))
    broken = pairs.map(lambda row, i: {"image": {"bytes": b"x", "path": None}} if i == 2 else row, with_indices=True)
    DatasetDict(train=pairs, test=Dataset.from_dict(broken.to_dict(), features=pairs.features)).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"The image in row 2 of the test split of the dataset '.*' \(column 'image'"):
        texts(load_pairs(str(tmp_path)).test)


def test_a_saved_dataset_that_lost_a_file_is_refused(tmp_path: Path):
    folder = saved(tmp_path / "saved", train=4)
    shutil.rmtree(tmp_path / "saved" / "train")
    with pytest.raises(FileNotFoundError, match="train"):
        load_pairs(folder)


def test_of_three_modalities_rows_with_empty_lists_are_not_measured(tmp_path: Path):
    texts = [["a cat"], [], None, [None], [None, "a dog"]]
    rows = Dataset.from_dict(
        {"text": texts, "first": [[1.0]] * 5, "second": [[2.0]] * 5},
        features=Features(
            {"text": List(Value("string"))} | dict.fromkeys(("first", "second"), List(Value("float32")))
        ),
    )
    DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "rows")
    splits = load_examples(str(tmp_path / "rows"), {m: m for m in rows.column_names})
    assert (len(splits.train), [row["text"] for row in splits.test]) == (5, ["a cat", "a dog"])
