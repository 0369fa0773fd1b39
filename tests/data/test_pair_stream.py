from typing import Any

import pytest
from datasets import Image

from hf_contrastive.data import PairStream
from hf_contrastive.data.streams import to_rows
from tests.conftest import make_pairs


def rows(stream: PairStream, batch_size: int = 4) -> list[dict[str, Any]]:
    return [row for columns in stream.iter(batch_size) for row in to_rows(columns)]


def test_rows_are_decoded_pictures_with_captions_and_ids():
    pairs = make_pairs(6).add_column("product", [3, 3, 4, 4, 5, 5])
    found = rows(PairStream(pairs.to_iterable_dataset(num_shards=2), id_column="product"))
    assert [row["text"] for row in found] == pairs["caption"][:]
    assert [row["id"] for row in found] == [3, 3, 4, 4, 5, 5]
    assert found[0]["image"].mode == "RGB"


@pytest.mark.parametrize("buffer_size", [0, 5])
def test_drawn_captions_are_others_in_each_epoch_and_the_same_in_a_resumed_run(buffer_size: int):
    def make(epoch: int) -> PairStream:
        data = make_pairs(16, many_captions=True).to_iterable_dataset(num_shards=2)
        stream = PairStream(data, draw=True, buffer_size=buffer_size, seed=1)
        stream.set_epoch(epoch)
        return stream

    first, second = ([row["text"] for row in rows(make(epoch))] for epoch in (0, 1))
    assert {text.startswith("a ") for text in first} == {True, False}
    assert [t for t in first if t.startswith("a ")] != [t for t in second if t.startswith("a ")]
    stream = make(0)
    reader = stream.iter(4)
    next(reader), next(reader)
    again = make(0)
    again.load_state_dict(stream.state_dict())
    assert [row["text"] for row in rows(again)] == first[8:]


def test_without_drawing_the_first_caption_is_read():
    stream = PairStream(make_pairs(8, many_captions=True).to_iterable_dataset())
    assert all(row["text"].startswith("a ") for row in rows(stream))


def test_parts_have_all_rows():
    stream = PairStream(make_pairs(8).to_iterable_dataset(num_shards=4), buffer_size=3)
    parts = [rows(stream.shard(2, index, contiguous=False)) for index in range(2)]
    assert sorted(row["text"] for part in parts for row in part) == sorted(make_pairs(8)["caption"])


def test_captions_come_without_pictures():
    broken = make_pairs(4).cast_column("image", Image(decode=False)).map(lambda row: {"image": {"bytes": b"x"}})
    assert list(PairStream(broken.to_iterable_dataset()).captions) == make_pairs(4)["caption"][:]


def test_unknown_columns_are_refused():
    with pytest.raises(ValueError, match="The columns of the stream are not known, as after `map`"):
        PairStream(make_pairs(4).to_iterable_dataset().map(lambda row: row))


def test_a_missing_column_is_named():
    with pytest.raises(
        ValueError, match=r"The stream has no image column 'photo'. Its columns: \['image', 'caption'\]"
    ):
        PairStream(make_pairs(4).to_iterable_dataset(), image_column="photo")


def test_a_row_without_a_caption_is_named_by_its_place():
    pairs = make_pairs(4).map(lambda row, i: {"caption": " " if i == 2 else row["caption"]}, with_indices=True)
    with pytest.raises(ValueError, match="Row 2 of the stream has no caption in column 'caption'"):
        rows(PairStream(pairs.to_iterable_dataset()))
