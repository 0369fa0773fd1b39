"""Names of files and patterns, and the columns of a WebDataset."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pytest

from hf_contrastive.data import PairDataset, PairStream, load_pairs
from hf_contrastive.data.files import expand, find_files, loader_of
from hf_contrastive.data.streams import to_rows
from tests.conftest import COLORS, make_pairs, picture


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these tests stays in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_tar(
    file: Path, start: int, rows: int, *, entries: Any = None, captions: bool = True, kind: str = "png"
) -> None:
    """A tar of a WebDataset: a picture, a caption and, if asked for, a JSON file per row."""
    with tarfile.open(file, "w") as tar:
        for number in range(start, start + rows):
            color = COLORS[number % len(COLORS)]
            members = {kind: picture(color, number)}
            members |= {"txt": f"a {color} picture number {number}".encode()} if captions else {}
            members |= {"json": json.dumps(entries(number)).encode()} if entries else {}
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def tars(tmp_path: Path) -> str:
    for shard in range(3):
        write_tar(tmp_path / f"{shard:02d}.tar", 10 * shard, 10)
    return str(tmp_path / "{00..02}.tar")


def texts(rows: Any) -> list[str]:
    if isinstance(rows, PairDataset):
        return [row["text"] for row in rows.__getitems__(range(len(rows)))]
    return [row["text"] for columns in rows.iter(4) for row in to_rows(columns)]


# ---- Patterns ----


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("{098..101}", ["098", "099", "100", "101"]),
        ("a{b,c}{1,2}", ["ab1", "ab2", "ac1", "ac2"]),
        ("plain.tar", ["plain.tar"]),
        ("{odd}.tar", ["{odd}.tar"]),
        ("{a..b}.tar", ["{a..b}.tar"]),
    ],
)
def test_braces_stand_for_names(pattern: str, names: list[str]):
    assert expand(pattern) == names


def test_wildcards_find_files_in_order(tars: str, tmp_path: Path):
    assert find_files(str(tmp_path / "*.tar")) == find_files(tars) == [str(tmp_path / f"0{n}.tar") for n in range(3)]


def test_a_file_that_is_not_there_is_named(tars: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is nothing at '.*03\.tar'"):
        find_files(str(tmp_path / "{00..03}.tar"))
    with pytest.raises(FileNotFoundError, match=r"there is nothing at '.*\*\.parquet'"):
        find_files(str(tmp_path / "*.parquet"))


def test_files_of_several_kinds_are_refused(tars: str, tmp_path: Path):
    make_pairs(4).to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match=r"files of several kinds: \.parquet, \.tar"):
        loader_of(find_files(str(tmp_path / "*")), "*")


def test_one_file_of_another_kind_is_named(tars: str, tmp_path: Path):
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(ValueError, match=r"'\*'; files must end in .*, but there is '.*README\.md'"):
        loader_of(find_files(str(tmp_path / "*")), "*")


def test_an_empty_file_among_others_is_named(tars: str, tmp_path: Path):
    (tmp_path / "03.tar").touch()
    with pytest.raises(ValueError, match=r"the file '.*03\.tar', which is empty"):
        load_pairs(str(tmp_path / "*.tar"))


# ---- WebDatasets ----


def test_tars_are_pairs_of_pictures_and_text_files(tars: str):
    splits = load_pairs(tars)
    assert (len(splits.train), len(splits.test)) == (27, 3)
    expected = [f"a {COLORS[row % len(COLORS)]} picture number {row}" for row in range(30)]
    assert sorted(texts(splits.train) + texts(splits.test)) == sorted(expected)
    red = next(row for row in map(splits.train.__getitem__, range(27)) if " red " in row["text"])
    assert red["image"].getpixel((8, 8))[0] > 200


def test_one_tar_and_a_folder_of_tars_are_read_too(tars: str, tmp_path: Path):
    assert len(load_pairs(str(tmp_path / "00.tar")).train) == 9
    assert len(load_pairs(str(tmp_path)).train) == 27


@pytest.mark.parametrize("streaming", [False, True])
def test_captions_and_ids_may_be_in_json_files(tmp_path: Path, streaming: bool):
    def entries(number: int) -> dict[str, Any]:
        return {"caption": f"from json {number}", "product": number // 2, "good": number % 5 > 0, "size": 3}

    for shard in range(2):
        write_tar(tmp_path / f"{shard}.tar", 10 * shard, 10, entries=entries, captions=False, kind="jpg")
    splits = load_pairs(str(tmp_path / "{0,1}.tar"), id_column="product", where="good", streaming=streaming)
    (row,) = splits.test.__getitems__([0])
    number = int(row["text"].removeprefix("from json "))
    assert row["id"] == number // 2
    found = texts(splits.train)
    numbers = [int(text.removeprefix("from json ")) for text in found]
    assert all(number % 5 for number in numbers)
    assert len(numbers) == (8 if streaming else 15)


def test_a_named_caption_of_the_json_file_wins_over_the_text_file(tmp_path: Path):
    write_tar(tmp_path / "0.tar", 0, 10, entries=lambda number: {"alt": f"alt {number}"})
    assert all(
        text.startswith("alt ") for text in texts(load_pairs(str(tmp_path / "0.tar"), caption_column="alt").train)
    )
    assert all(text.startswith("a ") for text in texts(load_pairs(str(tmp_path / "0.tar")).train))


# ---- Streams ----


def test_a_stream_holds_out_its_last_file(tars: str):
    splits = load_pairs(tars, streaming=True)
    assert isinstance(splits.train, PairStream)
    train, test = texts(splits.train), texts(splits.test)
    assert len(train) == 20
    assert (
        test
        == texts(splits.validation)
        == [f"a {COLORS[row % len(COLORS)]} picture number {row}" for row in range(20, 30)]
    )
    assert not set(train) & set(test)
    assert train != sorted(train, key=lambda text: int(text.split()[-1])), "shuffled"


def test_the_order_of_the_files_can_be_kept(tars: str):
    found = texts(load_pairs(tars, streaming=True, buffer_size=0, max_test_rows=4).train)
    assert [int(text.split()[-1]) for text in found] == list(range(20))
    assert len(load_pairs(tars, streaming=True, max_test_rows=4).test) == 4


def test_parquet_files_are_streamed(tmp_path: Path):
    for shard in range(3):
        make_pairs(12).select(range(4 * shard, 4 * shard + 4)).to_parquet(tmp_path / f"{shard}.parquet")
    for name in (str(tmp_path / "{0..2}.parquet"), str(tmp_path / "*.parquet"), str(tmp_path)):
        splits = load_pairs(name, streaming=True)
        assert sorted(texts(splits.train)) == sorted(make_pairs(8)["caption"])
        assert texts(splits.test) == make_pairs(12)["caption"][8:]


def test_saved_data_is_streamed_with_its_own_splits(tmp_path: Path):
    datasets.DatasetDict(train=make_pairs(12), test=make_pairs(5)).save_to_disk(tmp_path / "saved")
    splits = load_pairs(str(tmp_path / "saved"), streaming=True)
    assert sorted(texts(splits.train)) == sorted(make_pairs(12)["caption"])
    assert texts(splits.test) == make_pairs(5)["caption"][:]


def test_one_file_has_no_part_to_hold_out_of_a_stream(tmp_path: Path):
    write_tar(tmp_path / "0.tar", 0, 10)
    with pytest.raises(ValueError, match="is one file with one split, of which a stream cannot hold out a part"):
        load_pairs(str(tmp_path / "0.tar"), streaming=True)


def test_a_picture_that_cannot_be_decoded_is_named_by_its_key_and_tar(tmp_path: Path):
    write_tar(tmp_path / "0.tar", 0, 4)
    with tarfile.open(tmp_path / "1.tar", "w") as tar:
        for suffix, data in (("png", b"no picture"), ("txt", b"a caption")):
            member = tarfile.TarInfo(f"bad.{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    write_tar(tmp_path / "2.tar", 4, 4)
    with pytest.raises(
        ValueError, match=r"The image in row 'bad' in .*1\.tar of the train split of .* cannot be decoded"
    ):
        texts(load_pairs(str(tmp_path / "{0..2}.tar"), streaming=True).train)
