"""What `PairDataset` reads, what it draws, and how it names what it cannot read."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from hf_contrastive.data import PairDataset
from tests.conftest import make_pairs, picture


def columns(image: Any, caption: Any = "a red picture", **kind: Any) -> Dataset:
    """One row with the columns `image` and `caption`."""
    return Dataset.from_dict({"image": [image], "caption": [caption]}, **kind)


def color(image: PILImage.Image) -> np.ndarray:
    return np.asarray(image).reshape(-1, 3).mean(axis=0)


def test_rows_are_rgb_pictures_and_strings(pairs: Dataset):
    rows = PairDataset(pairs)
    assert len(rows) == len(pairs) == 24
    row = rows[1]
    assert row.keys() == {"image", "text"}
    assert isinstance(row["image"], PILImage.Image)
    assert (row["image"].mode, row["image"].size) == ("RGB", (16, 16))
    assert row["text"] == "a green picture number 1"


def test_several_rows_are_the_single_ones_in_the_asked_order(pairs: Dataset):
    rows = PairDataset(pairs)
    for together, alone in zip(rows.__getitems__([5, 0, 5]), (rows[5], rows[0], rows[5]), strict=True):
        assert together["text"] == alone["text"]
        assert together["image"].tobytes() == alone["image"].tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_other_modes_become_rgb(mode: str):
    buffer = io.BytesIO()
    PILImage.new("RGB", (4, 4), "white").convert(mode).save(buffer, "TIFF")
    image = PairDataset(columns({"bytes": buffer.getvalue(), "path": None}))[0]["image"]
    assert image.mode == "RGB"
    assert color(image).tolist() == [255, 255, 255]


def test_the_columns_can_have_other_names(pairs: Dataset):
    renamed = pairs.rename_columns({"image": "photo", "caption": "alt"})
    row = PairDataset(renamed, image_column="photo", caption_column="alt")[2]
    assert row["text"] == "a blue picture number 2"
    assert row["image"].size == (16, 16)


def test_the_first_of_the_usual_names_is_the_caption(pairs: Dataset):
    both = pairs.add_column("text", ["another"] * len(pairs))
    assert PairDataset(both).caption_column == "caption"
    assert PairDataset(both.remove_columns("caption"))[0]["text"] == "another"


# ---- Image columns ----


def encoded(kind: str, folder: Path) -> Dataset:
    data = picture("red", seed=3)
    (folder / "red.png").write_bytes(data)
    path = str(folder / "red.png")
    binary, string = Value("binary"), Value("string")
    image, feature = {
        "Image": ({"bytes": data, "path": None}, Image()),
        "Image of a path": ({"bytes": None, "path": path}, Image()),
        "undecoded Image": ({"bytes": data, "path": "red.png"}, Image(decode=False)),
        "bytes": (data, binary),
        "large bytes": (data, Value("large_binary")),
        "path": (path, string),
        "struct": ({"bytes": data, "path": "red.png"}, {"bytes": binary, "path": string}),
        "struct of a path": ({"bytes": None, "path": path}, {"bytes": binary, "path": string}),
    }[kind]
    return columns(image, features=Features({"image": feature, "caption": string}))


@pytest.mark.parametrize(
    "kind",
    [
        "Image",
        "Image of a path",
        "undecoded Image",
        "bytes",
        "large bytes",
        "path",
        "struct",
        "struct of a path",
    ],
)
def test_images_are_read_however_they_are_stored(kind: str, tmp_path: Path):
    expected = PILImage.open(io.BytesIO(picture("red", seed=3)))
    assert PairDataset(encoded(kind, tmp_path))[0]["image"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", [Value("int64"), List(Value("uint8")), {"data": Value("binary")}], ids=str)
def test_a_column_that_cannot_hold_images_is_refused(kind: Any):
    value = {"data": b""} if isinstance(kind, dict) else 1 if isinstance(kind, Value) else [1, 2]
    data = columns(value, features=Features({"image": kind, "caption": Value("string")}))
    with pytest.raises(
        ValueError, match="Column 'image' of the cats must hold images, their bytes or their paths, but its type is"
    ):
        PairDataset(data, name="cats")


# ---- Captions ----


def test_without_drawing_the_first_caption_of_a_list_is_read():
    rows = PairDataset(make_pairs(many_captions=True))
    assert {rows[3]["text"] for _ in range(20)} == {"a white picture number 3"}


def texts_of_epochs(rows: PairDataset, row: int) -> list[str]:
    found = []
    for epoch in range(30):
        rows.set_epoch(epoch)
        found.append(rows[row]["text"])
    return found


def test_drawing_reads_every_caption_of_a_list():
    rows = PairDataset(make_pairs(many_captions=True), draw=True)
    # Either caption is missed in 30 draws with a chance of 2^-29.
    assert set(texts_of_epochs(rows, 3)) == {"a white picture number 3", "something white"}


def test_drawing_depends_on_seed_epoch_and_row_alone():
    data = make_pairs(many_captions=True)
    first, again, other = (PairDataset(data, draw=True, seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(0)
    texts = [row["text"] for row in first.__getitems__(range(24))]
    assert [again[row]["text"] for row in reversed(range(24))] == texts[::-1]
    assert [row["text"] for row in other.__getitems__(range(24))] != texts
    assert len({text.startswith("something") for text in texts}) == 2


@pytest.mark.parametrize("draw", [False, True])
def test_single_captions_leave_the_random_state_alone(draw: bool):
    strings = PairDataset(make_pairs(4), draw=draw)
    lists = PairDataset(columns(picture("red"), ["only one", " "]), draw=draw)
    before = torch.get_rng_state()
    assert strings[0]["text"] == "a red picture number 0"
    assert lists[0]["text"] == "only one"
    assert torch.equal(torch.get_rng_state(), before)


def test_blank_captions_of_a_list_are_passed_over():
    rows = PairDataset(columns(picture("red"), ["", "  ", "a cat", "a dog"]), draw=True)
    assert set(texts_of_epochs(rows, 0)) == {"a cat", "a dog"}


def test_captions_are_flattened():
    assert PairDataset(make_pairs(2)).captions == ["a red picture number 0", "a green picture number 1"]
    assert PairDataset(make_pairs(2, many_captions=True)).captions == [
        "a red picture number 0",
        "something red",
        "a green picture number 1",
        "something green",
    ]


def test_a_list_of_absent_captions_is_none():
    kind = Features({"image": Value("binary"), "caption": List(Value("string"))})
    with pytest.raises(ValueError, match="Row 0 of the dataset has no caption in column 'caption'"):
        PairDataset(columns(picture("red"), [None], features=kind))[0]


@pytest.mark.parametrize("captions", [["a cat", None], [["a cat"], None], [["a cat", None], []]], ids=repr)
def test_absent_captions_are_not_among_all_captions(captions: list[Any]):
    data = Dataset.from_dict({"image": [picture("red")] * 2, "caption": captions})
    assert PairDataset(data).captions == ["a cat"]


# ---- Errors ----


def test_a_column_that_cannot_hold_captions_is_refused():
    with pytest.raises(ValueError, match=r"Column 'caption' of the cats must hold .*, but its type is"):
        PairDataset(columns(picture("red"), 7), name="cats")


def test_the_image_column_cannot_be_the_caption_column(tmp_path: Path):
    with pytest.raises(ValueError, match="`caption_column`"):
        PairDataset(columns(str(tmp_path)), caption_column="image")


def test_pictures_are_upright():
    buffer, orientation = io.BytesIO(), PILImage.Exif()
    orientation[0x112] = 6
    PILImage.new("RGB", (8, 4)).save(buffer, "JPEG", exif=orientation)
    assert PairDataset(columns(buffer.getvalue()))[0]["image"].size == (4, 8)


def test_a_missing_image_column_is_answered_with_the_columns(pairs: Dataset):
    with pytest.raises(
        ValueError,
        match=r"The dataset has no image column 'photo'. Its columns: \['image', 'caption'\]. Name .* `image_column`",
    ):
        PairDataset(pairs, image_column="photo")


def test_a_missing_caption_column_is_answered_with_the_columns(pairs: Dataset):
    with pytest.raises(ValueError, match=r"no caption column 'alt'. Its columns: \['image', 'caption'\]"):
        PairDataset(pairs, caption_column="alt")


def test_no_usual_caption_column_is_answered_with_the_usual_names(pairs: Dataset):
    with pytest.raises(
        ValueError, match=r"no column called caption, captions, text, .* Name the right one with `caption_column`"
    ):
        PairDataset(pairs.rename_column("caption", "alt"))


def test_an_empty_dataset_is_refused(pairs: Dataset):
    with pytest.raises(ValueError, match=r"The test split is empty: it has the columns \['image', 'caption'\]"):
        PairDataset(pairs.select([]), name="test split")


@pytest.mark.parametrize("data", [b"", b"no picture", picture("red")[:40], picture("red")[:-40]])
def test_an_undecodable_image_is_named_by_its_row(pairs: Dataset, data: bytes):
    images = [{"bytes": data, "path": None} if row == 17 else image for row, image in enumerate(encoded_images(pairs))]
    kind = Features({"image": Image(), "caption": Value("string")})
    rows = PairDataset(Dataset.from_dict({"image": images, "caption": pairs["caption"]}, features=kind), name="cats")
    with pytest.raises(
        ValueError,
        match=rf"The image in row 17 of the cats \(column 'image', {len(data)} bytes\) cannot be decoded: .* Repair",
    ):
        rows.__getitems__([3, 17])
    assert len(rows.__getitems__([16, 18])) == 2


def encoded_images(pairs: Dataset) -> list[dict[str, Any]]:
    return list(pairs.cast_column("image", Image(decode=False))["image"])


def test_a_path_where_there_is_no_image_is_named(tmp_path: Path):
    rows = PairDataset(columns(str(tmp_path / "gone.png")))
    with pytest.raises(ValueError, match=r"row 0 of the dataset \(column 'image', '.*gone.png'\) cannot be decoded"):
        rows[0]


def test_an_absent_image_is_named_by_its_row():
    kind = Features({"image": Image(), "caption": Value("string")})
    rows = PairDataset(columns(None, features=kind))
    with pytest.raises(ValueError, match="Row 0 of the dataset has no image in column 'image'"):
        rows[0]


@pytest.mark.parametrize("caption", ["", " \n", None, [], ["", " "]], ids=repr)
def test_a_row_without_a_caption_is_named(caption: Any):
    kind: Any = List(Value("string")) if isinstance(caption, list) else Value("string")
    rows = PairDataset(
        columns(picture("red"), caption, features=Features({"image": Value("binary"), "caption": kind}))
    )
    with pytest.raises(ValueError, match="Row 0 of the dataset has no caption in column 'caption'"):
        rows[0]


def test_a_row_beyond_the_end_is_refused(pairs: Dataset):
    with pytest.raises(IndexError, match=r"out of range|out of bounds"):
        PairDataset(pairs)[24]


def test_rows_carry_the_id_of_what_they_show():
    data = make_pairs(4).add_column("product", ["cup", "hat", "cup", "pen"])
    pairs = PairDataset(data, id_column="product")
    assert [example["id"] for example in pairs.__getitems__(range(4))] == ["cup", "hat", "cup", "pen"]
    assert "id" not in PairDataset(data)[0]


def test_a_missing_id_column_is_answered_with_the_columns_there_are():
    with pytest.raises(ValueError, match=r"^The dataset has no `id_column` 'product'\. Its columns: \['image'"):
        PairDataset(make_pairs(4), id_column="product")
