"""Datasets, mixes, streams and collators that were made apart, together."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image as PILImage
from torch.utils.data import Subset

from hf_contrastive.data import ContrastiveCollator, ExampleDataset, PairDataset, load_pairs, mix_datasets
from hf_contrastive.data.columns import column_values
from hf_contrastive.data.modalities import IDS
from hf_contrastive.data.numbering import NumberedStream
from hf_contrastive.data.pair_stream import PairStream
from hf_contrastive.data.replay import ReplayableReads
from hf_contrastive.models import small_clip
from tests.conftest import TINY, make_pairs, tiny_siglip


def captions(num_rows: int = 4, each: int = 3) -> Dataset:
    texts = [[f"{row} {number}" for number in range(each)] for row in range(num_rows)]
    return Dataset.from_dict({"text": texts, "score": [[float(row + 1)] * 2 for row in range(num_rows)]})


def examples(**options: Any) -> ExampleDataset:
    return ExampleDataset(captions(), {"text": "text", "vector": "score"}, **options)


# ---- Mixes ----


def test_datasets_of_a_mix_draw_anew_in_each_epoch():
    data = ReplayableReads(mix_datasets({"a": examples(pick={"text": "random"})}), seed=0)
    drawn = set()
    for epoch in range(8):
        data.set_epoch(epoch)
        drawn.add(data.__getitems__([0])[0]["text"])
    assert drawn == {"0 0", "0 1", "0 2"}


def test_ids_of_different_datasets_of_a_mix_are_never_equal():
    mixed = mix_datasets({"a": examples(pick={"text": "all"}), "b": examples(pick={"text": "all"}), "c": examples()})
    rows = mixed.__getitems__(list(range(len(mixed))))
    ids = [row[IDS] for row in rows]
    # 4 rows of a and of b with 3 captions each, and 4 rows of c.
    assert len(ids) == 28
    assert len(set(ids)) == 12
    assert IDS not in mix_datasets({"c": examples()})[0]


def test_ids_reach_a_mix_through_wrappers_and_other_mixes():
    part = Subset(examples(pick={"text": "all"}), [0, 1, 5])
    rows = list(mix_datasets({"a": part, "b": part}))
    assert len({row[IDS] for row in rows}) == 4
    nested = mix_datasets({"inner": mix_datasets({"a": part, "c": examples()}), "d": examples()})
    assert all(IDS in row for row in nested)


def test_a_row_of_a_mix_without_an_id_is_refused():
    ids = captions().add_column("id", [1, None, 2, 3])
    known = ExampleDataset(ids, {"text": "text", "vector": "score"}, id_column="id")
    mixed = mix_datasets({"a": examples(pick={"text": "all"}), "b": known})
    with pytest.raises(ValueError, match="Row 1 of the dataset 'b' of a mix has no id"):
        mixed[13]


def test_rows_of_a_mix_end_and_count_from_the_end():
    mixed = mix_datasets({"a": examples(), "b": examples()})
    assert len(list(mixed)) == 8
    assert mixed[-1] == mixed[7]
    with pytest.raises(IndexError, match="Rows of a mix are 0 to 7"):
        mixed[8]


def test_rows_that_a_mix_skips_are_counted():
    broken = captions().map(lambda row, number: {"text": [""] if number == 1 else row["text"]}, with_indices=True)
    part = ExampleDataset(broken, {"text": "text", "vector": "score"}, on_bad_row="skip")
    mixed = mix_datasets({"a": examples(), "b": part})
    assert mixed.skipped_rows == 0
    mixed.__getitems__([4, 5])
    assert mixed.skipped_rows == 1
    assert mix_datasets({"a": examples()}).skipped_rows is None


def test_a_mix_tells_rows_apart_by_values_that_a_dataset_could():
    with pytest.raises(ValueError, match="Rows are told apart by integers or strings"):
        column_values(mix_datasets({"a": Dataset.from_dict({"id": [None, None]})}), "id")


# ---- Several values of a row ----


def test_values_of_a_column_are_as_many_as_examples():
    data = examples(pick={"text": "all"})
    assert column_values(data, "text") == [data[index]["text"] for index in range(len(data))]
    rows = ExampleDataset(
        captions().add_column("id", [5, 6, 5, 7]),
        {"text": "text", "vector": "score"},
        pick={"text": "all"},
        id_column="id",
    )
    assert (
        column_values(rows, "id")
        == [rows[index]["id"] for index in range(len(rows))]
        == [5] * 3 + [6] * 3 + [5] * 3 + [7] * 3
    )


# ---- Streams ----


def test_a_stream_that_was_filtered_or_mapped_is_read():
    pairs = make_pairs(4)
    wanted = [row["text"] for row in PairStream(pairs.to_iterable_dataset())]
    assert len(wanted) == 4
    for stream in (
        pairs.to_iterable_dataset().filter(lambda _: True),
        pairs.to_iterable_dataset().map(lambda row: row, features=pairs.features),
    ):
        rows = list(PairStream(stream))
        assert [row["text"] for row in rows] == wanted
        assert all(isinstance(row["image"], PILImage.Image) for row in rows)


def test_rows_of_a_stream_are_kept_without_decoding_the_others(tmp_path: Path):
    pairs = make_pairs(8).add_column("ok", [True, False] * 4)
    for part in range(2):
        pairs.to_parquet(tmp_path / f"part{part}.parquet")
    splits = load_pairs(str(tmp_path / "part{0,1}.parquet"), streaming=True, where="ok", buffer_size=0)
    assert len(list(splits.train)) == 4


def test_a_stream_is_numbered_for_evaluation_and_an_endless_mix_refused():
    stream = PairStream(make_pairs(3).to_iterable_dataset())
    assert [number for number, _ in NumberedStream(stream)] == [0, 1, 2]
    assert [number for number, _ in NumberedStream(stream)] == [0, 1, 2]
    with pytest.raises(ValueError, match="A mix of streams has no end"):
        NumberedStream(mix_datasets({"a": stream}, weights={"a": 1.0}))


# ---- Collators ----


def test_options_for_a_model_are_added_to_those_that_are_given():
    _, processor = small_clip(["a cat"], TINY)
    collator = ContrastiveCollator.for_model(tiny_siglip(), processor, processor_kwargs={"max_length": 4})
    assert collator.processor_kwargs == {"padding": "max_length", "truncation": True, "max_length": 4}


def test_batches_and_ids_that_cannot_be_are_named():
    collator = ContrastiveCollator(processor={"text": (None, "text"), "vector": (None, "vector")}, id_column="id")
    with pytest.raises(ValueError, match="got a batch without examples"):
        collator([])
    row = {"text": [1.0, 2.0], "vector": [1.0, 2.0]}
    assert collator([row | {"id": 2**63 - 1}])[IDS].tolist() == [2**63 - 1]
    with pytest.raises(ValueError, match="must fit 64 bits, but one is 9223372036854775808"):
        collator([row | {"id": 2**63}])


def test_a_pair_dataset_tells_its_captions_apart_too():
    pairs = PairDataset(make_pairs(4, many_captions=True), pick={"text": "all"})
    assert len(column_values(pairs, "text")) == len(pairs)
