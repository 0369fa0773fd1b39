import json
from typing import Any

import pytest
from torch.utils.data import DataLoader

from hf_contrastive.data import mix_datasets, shuffle_stream
from hf_contrastive.data.stream_batches import POSITION, PositionCollator, StreamBatches
from hf_contrastive.data.stream_state import StreamState
from hf_contrastive.data.streams import Stream

from .streams import numbers


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"a": [example["a"] for example in examples]}


def loader(stream: Stream, workers: int = 0, size: int = 3) -> tuple[StreamBatches, DataLoader]:
    batches = StreamBatches(stream, size)
    return batches, DataLoader(
        batches, batch_size=size, num_workers=workers, collate_fn=PositionCollator(collate, batches)
    )


def state_of(batches: StreamBatches, workers: int = 0) -> StreamState:
    return StreamState(batches, rank=0, num_processes=1, num_workers=workers)


def rows(found: list[dict[str, Any]]) -> list[list[int]]:
    return [batch["a"] for batch in found]


def test_batches_are_full_and_tell_where_they_end():
    _, loading = loader(numbers(23, shards=1))
    found = list(loading)
    assert rows(found) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(7)]
    position = json.loads(found[2][POSITION])
    again = numbers(23, shards=1)
    assert position["state"]["batches"] == 3
    again.load_state_dict(position["state"]["state"])
    assert next(iter(again.iter(3))) == {"a": [9, 10, 11]}
    assert (position["epoch"], position["lane"], position["of"]) == (0, 0, 1)


# Workers are processes that take a second to start: few cases of them.
@pytest.mark.parametrize(("workers", "after"), [(0, 1), (0, 4), (2, 3), (2, 6)])
def test_a_loader_goes_on_with_the_batches_that_were_to_come(workers: int, after: int, tmp_path):
    def make() -> Stream:
        # Lanes of 12 and 11 rows: one has a batch more than the other.
        return shuffle_stream(numbers(23, shards=2), buffer_size=5)

    batches, loading = loader(make(), workers)
    whole = list(loading)
    assert len(whole) == 7
    state = state_of(batches, workers)
    # The loader has read ahead of what is taken here.
    state.take([dict(batch) for batch in whole[:after]], last=False)
    state.save(tmp_path)

    batches, loading = loader(make(), workers)
    state_of(batches, workers).load(tmp_path)
    assert rows(list(loading)) == rows(whole[after:])


def test_more_workers_than_shards_read_what_there_is():
    _, loading = loader(numbers(12, shards=1), workers=2)
    assert rows(list(loading)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_epochs_are_counted_from_where_a_run_is_resumed():
    batches, loading = loader(shuffle_stream(numbers(), buffer_size=9))
    orders = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        orders.append(rows(list(loading)))
    assert len({str(order) for order in orders}) == 4
    batches, loading = loader(shuffle_stream(numbers(), buffer_size=9))
    batches.resume({"epoch": 2, "next_lane": 0, "lanes": {}})
    for epoch in range(2):
        batches.set_epoch(epoch)
        assert rows(list(loading)) == orders[2 + epoch]


def test_workers_that_outlive_a_pass_are_told_the_epoch():
    batches = StreamBatches(shuffle_stream(numbers(24, shards=2), buffer_size=12), 3)
    loading = DataLoader(batches, batch_size=3, num_workers=2, collate_fn=collate, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append(rows(list(loading)))
    assert orders[0] == orders[2] != orders[1]


# ---- The file ----


def test_the_end_of_a_pass_is_the_beginning_of_the_next(tmp_path):
    batches, loading = loader(numbers(9, shards=1))
    state = state_of(batches)
    state.take(list(loading), last=True)
    state.save(tmp_path)
    saved = json.loads((tmp_path / "stream_state_0.json").read_text())
    assert (saved["epoch"], saved["lanes"], saved["num_batches"]) == (1, {}, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stream_state_0.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 4}, "saved with 3 as the rows per batch, and this run has 4"),
        ({"workers": 2}, "saved with 0 as the dataloader_num_workers, and this run has 2"),
        ({"processes": 2}, "saved with 1 as the processes, and this run has 2"),
        ({"seed": 1}, "as the random order of the stream"),
    ],
    ids=str,
)
def test_a_run_that_would_read_other_rows_is_refused(change: dict[str, int], message: str, tmp_path):
    def state(*, size: int = 3, workers: int = 0, processes: int = 1, seed: int = 0) -> StreamState:
        batches = StreamBatches(shuffle_stream(numbers(), seed=seed), size)
        return StreamState(batches, rank=0, num_processes=processes, num_workers=workers)

    state().save(tmp_path)
    state().load(tmp_path)
    with pytest.raises(ValueError, match=message):
        state(**change).load(tmp_path)


def test_a_shuffle_without_a_seed_is_no_order_to_go_on_with(tmp_path):
    state_of(StreamBatches(numbers().shuffle(), 3)).save(tmp_path)
    with pytest.raises(ValueError, match="streams that are shuffled need a `seed`"):
        state_of(StreamBatches(numbers().shuffle(), 3)).load(tmp_path)


def test_a_mix_in_workers_takes_the_streams_in_turn():
    mixed = mix_datasets({"x": numbers(40), "y": numbers(40, start=1000)}, homogeneous_batches=True)
    _, loading = loader(mixed, workers=2)
    found = [batch["a"] for batch, _ in zip(loading, range(12), strict=False)]
    assert all(len({a >= 1000 for a in batch}) == 1 for batch in found)
    assert len({batch[0] >= 1000 for batch in found}) == 2
