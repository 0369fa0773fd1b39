"""Streams of any modalities, whose rows are those of the map."""

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from hf_contrastive.data import ExampleDataset, ExampleStream
from hf_contrastive.data.streams import to_rows
from tests.conftest import make_pairs


COLUMNS = {"image": "image", "text": "caption", "audio": "sound", "product": "vector"}


def make_rows(number: int = 8) -> Dataset:
    rng = np.random.default_rng(0)
    sounds = [{"array": rng.normal(size=20).tolist(), "sampling_rate": 16_000} for _ in range(number)]
    pairs = make_pairs(number, many_captions=True)
    return pairs.add_column("sound", sounds).add_column("vector", rng.normal(size=(number, 3)).tolist())


def rows(stream: ExampleStream, batch_size: int = 4) -> list[dict[str, Any]]:
    return [row for columns in stream.iter(batch_size) for row in to_rows(columns)]


def test_rows_are_those_of_the_map():
    data = make_rows()
    found = rows(ExampleStream(data.to_iterable_dataset(num_shards=2), COLUMNS))
    expected = ExampleDataset(data, COLUMNS)
    for row, example in enumerate(found):
        assert example["image"].tobytes() == expected[row]["image"].tobytes()
        for m in ("text", "product"):
            assert example[m] == expected[row][m]
        assert example["audio"]["array"] == expected[row]["audio"]["array"].tolist()
        assert example["audio"]["sampling_rate"] == expected[row]["audio"]["sampling_rate"]


def test_a_row_may_lack_some_of_three_modalities_but_must_have_two():
    data = make_rows().map(lambda row, i: {"vector": None if i == 1 else row["vector"]}, with_indices=True)
    found = rows(ExampleStream(data.to_iterable_dataset(), COLUMNS))
    assert [row["product"] is None for row in found] == [row == 1 for row in range(8)]
    alone = data.map(lambda row, i: {"sound": None if i < 2 else row["sound"]}, with_indices=True)
    columns = {m: COLUMNS[m] for m in ("text", "audio", "product")}
    with pytest.raises(ValueError, match="Row 1 of the stream has no sound in column 'sound'"):
        rows(ExampleStream(alone.to_iterable_dataset(), columns))
    kept = ExampleStream(alone.to_iterable_dataset(), columns, on_bad_row="skip")
    assert len(rows(kept)) == 7
    assert kept.skipped_rows == 1


def test_values_of_lists_are_drawn_anew_in_each_epoch_and_again_after_a_stop():
    stream = ExampleStream(make_rows(16).to_iterable_dataset(), COLUMNS, draw=True, seed=1)
    first = [row["text"] for row in rows(stream)]
    stream.set_epoch(1)
    assert [row["text"] for row in rows(stream)] != first
    stream.set_epoch(0)
    reader = stream.iter(4)
    next(reader), next(reader)
    again = ExampleStream(make_rows(16).to_iterable_dataset(), COLUMNS, draw=True, seed=1)
    again.load_state_dict(stream.state_dict())
    assert [row["text"] for row in rows(again)] == first[8:]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image": "photo"}, {}, "The stream has no column 'photo'. Its columns: "),
        (COLUMNS, {"id_column": "product"}, "The stream has no `id_column` 'product'"),
        ({"image": "vector"}, {"kinds": {"image": "image"}}, "Column 'vector' of the stream must hold images"),
    ],
)
def test_columns_that_are_not_there_or_of_another_kind_are_refused(columns: Any, options: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ExampleStream(make_rows().to_iterable_dataset(), columns, **options)
