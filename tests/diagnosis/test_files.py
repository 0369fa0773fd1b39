"""Files of embeddings: what is read, and what is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from hf_contrastive.diagnosis.files import as_ids, read_embeddings


X, Y = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)


def write_npy(folder: Path) -> list[Path]:
    np.save(folder / "images.npy", X)
    np.save(folder / "texts.npy", Y)
    return [folder / "images.npy", folder / "texts.npy"]


def write_npz(folder: Path) -> list[Path]:
    np.savez(folder / "both.npz", images=X, texts=Y)
    return [folder / "both.npz"]


def write_safetensors(folder: Path) -> list[Path]:
    save_file({"images": X, "texts": Y}, folder / "both.safetensors")
    return [folder / "both.safetensors"]


def write_lists(folder: Path) -> list[Path]:
    pq.write_table(pa.table({"images": X.tolist(), "texts": Y.tolist(), "url": ["x"] * 6}), folder / "both.parquet")
    return [folder / "both.parquet"]


def write_columns(folder: Path) -> list[Path]:
    for name, rows in (("images", X), ("texts", Y)):
        table = pa.table({"id": [7] * 6} | {f"c{i}": rows[:, i] for i in range(3)})
        pq.write_table(table, folder / f"{name}.parquet")
    return [folder / "images.parquet", folder / "texts.parquet"]


def test_an_index_of_pandas_is_no_coordinate(tmp_path: Path):
    for name, rows in (("images", X), ("texts", Y)):
        frame = pd.DataFrame(rows, columns=["a", "b", "c"], index=[5, 3, 1, 4, 2, 0])
        frame.to_parquet(tmp_path / f"{name}.parquet")
    assert "__index_level_0__" in pq.read_table(tmp_path / "images.parquet").column_names
    embeds, _ = read_embeddings([tmp_path / "images.parquet", tmp_path / "texts.parquet"])
    np.testing.assert_array_equal(embeds["images"], X)


@pytest.mark.parametrize("write", [write_npy, write_npz, write_safetensors, write_lists, write_columns])
def test_every_format_has_the_same_rows(write: Any, tmp_path: Path):
    embeds, _ = read_embeddings(write(tmp_path))
    assert sorted(embeds) == ["images", "texts"]
    for name, rows in (("images", X), ("texts", Y)):
        np.testing.assert_allclose(embeds[name].numpy(), rows, rtol=1e-6)


def test_double_precision_is_kept_and_half_precision_made_single(tmp_path: Path):
    np.savez(tmp_path / "both.npz", images=X.astype(np.float64), texts=Y.astype(np.float16))
    embeds, _ = read_embeddings([tmp_path / "both.npz"])
    assert (embeds["images"].dtype, embeds["texts"].dtype) == (torch.float64, torch.float32)


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    for part in ("vision", "language"):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "embeds.npy", X)
    embeds, _ = read_embeddings([tmp_path / "vision" / "embeds.npy", tmp_path / "language" / "embeds.npy"])
    assert list(embeds) == ["embeds", "language_embeds"]


# ---- Ids ----


@pytest.mark.parametrize("suffix", ["txt", "npy", "parquet"])
def test_ids_come_from_a_file_of_their_own(suffix: str, tmp_path: Path):
    values = ["cat", "dog", "cat", "cow", "dog", "cow"]
    file = tmp_path / f"ids.{suffix}"
    if suffix == "txt":
        file.write_text("\n".join(values) + "\n")
    elif suffix == "npy":
        np.save(file, np.array(values))
    else:
        pq.write_table(pa.table({"product": values}), file)
    _, ids = read_embeddings(write_npy(tmp_path), ids=file)
    assert ids.tolist() == [0, 2, 0, 1, 2, 1]


def test_ids_may_stand_beside_the_embeddings(tmp_path: Path):
    np.savez(tmp_path / "both.npz", images=X, texts=Y, ids=np.array([5, 5, 1, 1, 9, 9]))
    assert read_embeddings([tmp_path / "both.npz"])[1].tolist() == [1, 1, 0, 0, 2, 2]
    assert read_embeddings(write_npy(tmp_path))[1] is None


def test_integers_and_strings_are_ids():
    assert as_ids(["b", "a", "b"]).tolist() == as_ids([2**40, 3, 2**40]).tolist() == [1, 0, 1]


# ---- What is refused ----


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": X, "texts": Y[:5]},
            r"Row i of every modality.*'images' of shape \[6, 3\], 'texts' of shape \[5, 3\]",
        ),
        ({"images": X, "texts": Y[:, :2]}, r"with one width.*'texts' of shape \[6, 2\].*repeat its row"),
        ({"images": X}, r"needs two modalities or more.*both\.npz' hold 'images' of shape \[6, 3\].*\(rows, width\)"),
        ({"images": X, "texts": Y[0]}, r"'texts' in '.*both\.npz' is an array of float32 of shape \[3\]"),
        ({"images": X, "texts": X > 0}, r"'texts' in .* is an array of bool"),
        (
            {"images": X * np.array([[1], [1], [np.nan], [1], [1], [1]]), "texts": Y},
            r"images of .*both\.npz.*row 2 is the",
        ),
        ({"images": X * np.array([[1], [0], [1], [1], [1], [1]]), "texts": Y}, r"rows of zeros.*row 1 is the first"),
        ({"images": X[:1], "texts": Y[:1]}, r"must have at least 2 rows, but got shape \[1, 3\]"),
        ({"images": X, "texts": Y, "ids": np.arange(5)}, r"one id for each of 6 rows, but holds \[5\]"),
    ],
    ids=["rows", "width", "one", "flat", "bool", "nan", "zero", "few", "ids"],
)
def test_arrays_that_do_not_fit_are_refused_with_file_and_shape(arrays: dict[str, Any], message: str, tmp_path: Path):
    np.savez(tmp_path / "both.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_embeddings([tmp_path / "both.npz"])


class Trap:
    """Does harm when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("harm").write_text, ("done",))


@pytest.mark.parametrize("kind", ["npy", "npz", "ids"])
def test_pickles_are_never_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    harmful = np.array([Trap()] * 6, dtype=object)
    files, ids = write_npy(tmp_path), None
    if kind == "npy":
        np.save(files[1], harmful, allow_pickle=True)
    elif kind == "npz":
        files = [tmp_path / "both.npz"]
        np.savez(files[0], images=X, texts=harmful)
    else:
        ids = tmp_path / "ids.npy"
        np.save(ids, harmful, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_embeddings(files, ids=ids)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["texts.pt", "texts.pkl", "texts.csv", "texts"])
def test_other_files_are_refused(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"texts.*must end in \.npy, \.npz.*Pickles .* never read"):
        read_embeddings([*write_npy(tmp_path)[:1], tmp_path / name])


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "parquet"])
def test_broken_files_are_refused_by_name(suffix: str, tmp_path: Path):
    (tmp_path / f"broken.{suffix}").write_bytes(b"no such format")
    with pytest.raises(ValueError, match=rf"broken\.{suffix}' cannot be read"):
        read_embeddings([tmp_path / f"broken.{suffix}"])


def test_files_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*nowhere\.npy'"):
        read_embeddings([tmp_path / "nowhere.npy"])
    with pytest.raises(FileNotFoundError, match=r"`ids` is '.*nowhere\.txt'"):
        read_embeddings(write_npy(tmp_path), ids=tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match=r"`ids` must be a file that ends in \.npy, \.txt"):
        read_embeddings(write_npy(tmp_path), ids=tmp_path / "ids.json")


def test_one_name_in_two_archives_is_refused(tmp_path: Path):
    np.savez(tmp_path / "a.npz", images=X)
    np.savez(tmp_path / "b.npz", images=Y)
    with pytest.raises(ValueError, match=r"b\.npz' and '.*a\.npz' both hold 'images'"):
        read_embeddings([tmp_path / "a.npz", tmp_path / "b.npz"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"images": X.tolist(), "texts": [[1.0, 2.0], *Y[1:].tolist()]},
            "Row 1 of column 'texts' has 3 numbers, but the first has 2",
        ),
        ({"images": X.tolist(), "texts": [*Y[:5].tolist(), None]}, "Row 5 of column 'texts' is empty"),
        ({"url": ["x"]}, r"It has the columns \['url'\], none of lists or numbers"),
    ],
)
def test_parquet_columns_that_are_no_matrix_are_refused(columns: dict[str, Any], message: str, tmp_path: Path):
    pq.write_table(pa.table(columns), tmp_path / "both.parquet")
    with pytest.raises(ValueError, match=message):
        read_embeddings([tmp_path / "both.parquet"])


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_ids_that_cannot_be_read_are_named_without_a_word_for_pickles(tmp_path: Path, suffix: str):
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"^`ids` is '.*broken.*', which cannot be read: ") as error:
        read_embeddings(write_npy(tmp_path), ids=broken)
    assert "trust" not in str(error.value)
