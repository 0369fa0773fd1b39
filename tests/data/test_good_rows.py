"""Bad rows of streams: left out, counted and named, with full batches and the same ones after a stop."""

import io
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hf_contrastive.data import PairStream, good_rows, load_pairs, mix_datasets, shuffle_stream
from hf_contrastive.data.modalities import ROWS
from hf_contrastive.data.numbering import NumberedCollator, NumberedStream
from hf_contrastive.data.stream_batches import PositionCollator, StreamBatches
from hf_contrastive.data.stream_state import StreamState
from hf_contrastive.data.streams import Stream, bad_rows_before
from tests.conftest import picture

from .streams import assert_resumes_anywhere, bad_stream, pairs_with_bad


BAD = (0, 3, 4, 5, 6, 7, 14, 21, 22)


def make(size: int = 23, bad: Collection[int] = BAD, shards: int = 1, **options: Any) -> PairStream:
    return bad_stream(size, bad, shards, **options)


def ids(columns: dict[str, list[Any]]) -> list[int]:
    return columns["id"]


def good(size: int = 23, bad: Collection[int] = BAD) -> list[int]:
    return [row for row in range(size) if row not in bad]


def test_batches_are_filled_from_the_rows_after_bad_ones_which_are_counted():
    stream, wanted, end = make(), good(), 0
    for columns in stream.iter(4, drop_last_batch=True):
        end += 4
        assert ids(columns) == wanted[end - 4 : end]
        assert bad_rows_before(stream.state_dict()) == sum(row < wanted[end - 1] for row in BAD)
    assert end == 12
    # 14 good rows: two are left, and bad ones behind them.
    assert bad_rows_before(stream.state_dict()) == stream.skipped_rows == len(BAD)
    assert [len(ids(columns)) for columns in stream.iter(4)] == [4, 4, 4, 2]
    assert make(on_bad_row="raise").skipped_rows is None


@pytest.mark.parametrize("buffer_size", [0, 5])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stream_with_bad_rows_resumes_anywhere(buffer_size: int, batch_size: int):
    assert_resumes_anywhere(lambda: make(shards=3, buffer_size=buffer_size), batch_size=batch_size)
    assert_resumes_anywhere(lambda: shuffle_stream(make(), buffer_size=4), epoch=1, batch_size=batch_size)


@pytest.mark.parametrize("after", range(1, 5))
@pytest.mark.parametrize(
    "build",
    [make, lambda: make(buffer_size=5), lambda: shuffle_stream(make(), buffer_size=4)],
    ids=["in order", "shuffled", "shuffled after decoding"],
)
def test_a_resumed_stream_has_counted_the_same_bad_rows(build: Any, after: int):
    whole, cut = build(), build()
    counts = [bad_rows_before(whole.state_dict()) for _ in whole.iter(3)]
    for _, _ in zip(range(after), cut.iter(3), strict=False):
        state = cut.state_dict()
    again = build()
    again.load_state_dict(state)
    assert [bad_rows_before(again.state_dict()) for _ in again.iter(3)] == counts[after:]
    assert bad_rows_before(again.state_dict()) == bad_rows_before(whole.state_dict()) == len(BAD)


def test_bad_rows_are_named_by_their_number_before_they_are_shuffled(caplog: pytest.LogCaptureFixture):
    stream = make(8, bad=(5, 6), buffer_size=8)
    for epoch in range(2):
        stream.set_epoch(epoch)
        assert sorted(row["id"] for row in stream) == [0, 1, 2, 3, 4, 7]
    (first, second) = sorted(record.getMessage() for record in caplog.records)
    assert first.startswith("Row 5 of the stream has no caption in column 'caption'. It is skipped")
    assert second.startswith("The image in row 6 of the stream (column 'image', 10 bytes) cannot be decoded")
    # At each reading.
    assert stream.skipped_rows == 4


def test_a_bad_row_of_a_part_is_named_by_the_part_and_its_number_in_it():
    # Shards of 4 rows: the second part has rows 4 to 7 and 12 to 15, the first half of which is its own second part.
    part = make(16, bad=(13,), shards=4, on_bad_row="raise", buffer_size=8).shard(2, 1, contiguous=False)
    with pytest.raises(ValueError, match="Row 5 of part 1 of 2 of the stream has no caption"):
        list(part)
    with pytest.raises(ValueError, match="Row 1 of part 1 of 2 of part 1 of 2 of the stream has no caption"):
        list(part.shard(2, 1, contiguous=False))


# ---- Nothing but bad rows ----


def test_a_stream_of_bad_rows_is_refused():
    stream = make(6, bad=range(6))
    with pytest.raises(ValueError, match="All rows of the stream are bad: 6 were skipped, and none is left"):
        next(stream.iter(2))


def test_a_stream_of_bad_rows_without_end_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(good_rows, "MAX_IN_A_ROW", 20)
    stream = PairStream(pairs_with_bad(6, range(6)).to_iterable_dataset().repeat(None), on_bad_row="skip")
    with pytest.raises(ValueError, match=r"20 rows of the stream in a row are bad.* Row 19 .*has no caption"):
        next(stream.iter(2))


def test_a_part_may_have_nothing_but_bad_rows(caplog: pytest.LogCaptureFixture):
    stream = make(8, bad=range(4), shards=2)
    assert list(stream.shard(2, 0)) == []
    assert caplog.records[-1].getMessage().startswith("All rows of part 0 of 2 of the stream are bad: 4 were skipped")
    assert [row["id"] for row in stream.shard(2, 1)] == [4, 5, 6, 7]
    assert stream.skipped_rows == 4


def test_a_stream_that_goes_on_with_nothing_but_bad_rows_has_ended():
    stream = make(6, bad=(4, 5))
    next(stream.iter(4))
    again = make(6, bad=(4, 5))
    again.load_state_dict(stream.state_dict())
    assert list(again.iter(4)) == []


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="`on_bad_row` must be 'raise' or 'skip', but got 'ignore'"):
        make(on_bad_row="ignore")


# ---- Mixes and files ----


def test_a_mix_counts_the_bad_rows_of_streams_that_begin_again():
    def mixed() -> Stream:
        # A pass of the first has one bad row in three, behind the good ones; the other has none.
        return mix_datasets({"bad_rows": make(3, bad=(2,)), "whole": make(40, bad=())}, seed=1)

    stream, seen, counts, states = mixed(), 0, [], []
    assert stream.skipped_rows == 0
    for columns, _ in zip(stream.iter(4), range(8), strict=False):
        seen += columns["dataset_name"].count("bad_rows")
        # A pass is known to be over when the next one begins.
        assert bad_rows_before(stream.state_dict()) == max(0, seen - 1) // 2
        counts.append(bad_rows_before(stream.state_dict()))
        states.append(stream.state_dict())
    assert counts[-1] > 3
    again = mixed()
    again.load_state_dict(states[3])
    assert [bad_rows_before(again.state_dict()) for _, _ in zip(range(4), again.iter(4), strict=False)] == counts[4:]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_bad_rows_of_files_are_skipped_while_they_are_streamed(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    if kind == "tar":
        for shard in range(3):
            with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
                for row in range(6 * shard, 6 * shard + 6):
                    image = b"no picture" if row in (2, 8) else picture("red", row)
                    for suffix, data in (("png", image), ("txt", f"picture number {row}".encode())):
                        member = tarfile.TarInfo(f"{row:03d}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
    else:
        pairs = pairs_with_bad(18, (2, 8))
        for shard in range(3):
            pairs.select(range(6 * shard, 6 * shard + 6)).to_parquet(tmp_path / f"{shard}.parquet")
    # The last file is held out.
    stream = load_pairs(str(tmp_path / f"*.{kind}"), streaming=True, on_bad_row="skip", buffer_size=5).train
    found = sorted(int(row["text"].split()[-1]) for row in stream)
    assert found == [row for row in range(12) if row not in (2, 8)]
    assert stream.skipped_rows == 2
    places = ("row '002' in ", "row '008' in ") if kind == "tar" else ("row 2 of the train", "row 8 of the train")
    for place in places:
        assert any(place in record.getMessage() for record in caplog.records)


def test_a_stream_that_is_evaluated_counts_what_it_skips():
    stream = NumberedStream(make())
    batch = NumberedCollator(lambda rows: {"id": torch.tensor([row["id"] for row in rows])})(list(stream))
    assert batch["id"].tolist() == good()
    assert batch[ROWS].tolist() == list(range(14))
    assert stream.skipped_rows == len(BAD)


# ---- Loaders ----


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": [row["id"] for row in rows]}


def loader(workers: int, **options: Any) -> tuple[StreamState, DataLoader]:
    batches = StreamBatches(make(shards=2, **options), 3)
    collator = PositionCollator(collate, batches)
    loading = DataLoader(batches, batch_size=3, num_workers=workers, collate_fn=collator)
    return StreamState(batches, rank=0, num_processes=1, num_workers=workers), loading


# Workers are processes that take a second to start: few cases of them.
@pytest.mark.parametrize(("workers", "after"), [(0, 2), (2, 1), (2, 3)])
def test_what_workers_skip_is_counted_as_far_as_batches_are_taken(workers: int, after: int, tmp_path: Path):
    state, loading = loader(workers)
    whole, counts = [dict(batch) for batch in loading], []
    # Parts of 12 and 11 rows with 6 and 3 bad ones make 2 full batches each; together one loader makes 4 of 14 rows.
    assert len(whole) == 4
    lanes = [range(12), range(12, 23)] if workers else [range(23)]
    for number, batch in enumerate(whole):
        state.take([dict(batch)], last=False)
        counts.append(state.skipped_rows)
        taken = [row for earlier in whole[: number + 1] for row in earlier["id"]]
        last = [max((row for row in taken if row in lane), default=-1) for lane in lanes]
        assert counts[-1] == sum(
            row < end for end, lane in zip(last, lanes, strict=True) for row in lane if row in BAD
        )
        if number + 1 == after:
            state.save(tmp_path)
    state.take([], last=True, ran_out=True)
    assert state.skipped_rows == len(BAD)

    again, loading = loader(workers)
    again.load(tmp_path)
    rest = [dict(batch) for batch in loading]
    assert [batch["id"] for batch in rest] == [batch["id"] for batch in whole[after:]]
    for batch, count in zip(rest, counts[after:], strict=True):
        again.take([batch], last=False)
        assert again.skipped_rows == count
    again.take([], last=True, ran_out=True)
    assert again.skipped_rows == len(BAD)


def test_bad_rows_of_earlier_passes_count_too(tmp_path: Path):
    state, loading = loader(0, buffer_size=4)
    for epoch in range(3):
        state.batches.set_epoch(epoch)
        state.take(list(loading), last=True, ran_out=True)
        assert state.skipped_rows == (epoch + 1) * len(BAD)
        state.save(tmp_path)
        again, _ = loader(0, buffer_size=4)
        again.load(tmp_path)
        assert again.skipped_rows == state.skipped_rows
