import logging

import pytest

from hf_contrastive.data import shuffle_stream
from hf_contrastive.data.shuffling import ReplayedStream, as_resumable, random_settings

from .streams import assert_resumes_anywhere, numbers, read


def flat(stream: object) -> list[int]:
    return [a for batch in read(stream) for a in batch]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("buffer_size", [1, 5, 7, 100])
def test_a_shuffled_stream_resumes_anywhere(buffer_size: int, epoch: int):
    assert_resumes_anywhere(lambda: shuffle_stream(numbers(), buffer_size=buffer_size, seed=3), epoch=epoch)


def test_a_shuffled_stream_brings_every_row_once_in_another_order_per_epoch_and_seed():
    def order(seed: int, epoch: int) -> list[int]:
        stream = shuffle_stream(numbers(shards=1), buffer_size=8, seed=seed)
        stream.set_epoch(epoch)
        return flat(stream)

    assert sorted(order(0, 0)) == list(range(23))
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)} | {tuple(range(23))}) == 5


def test_rows_are_shuffled_within_their_block():
    assert sorted(flat(shuffle_stream(numbers(shards=1), buffer_size=8))[:8]) == list(range(8))


def test_parts_of_a_shuffled_stream_have_all_its_rows_in_orders_of_their_own():
    stream = shuffle_stream(numbers(24, shards=2), buffer_size=12)
    parts = [flat(stream.shard(2, index, contiguous=False)) for index in range(2)]
    assert sorted(parts[0] + parts[1]) == list(range(24))
    assert [a - 12 for a in parts[1]] != parts[0]


def test_a_buffer_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="`buffer_size` must be at least 1 row, but got 0"):
        shuffle_stream(numbers(), buffer_size=0)


@pytest.mark.filterwarnings("ignore")
def test_datasets_own_shuffle_loses_rows_on_resumption():
    # The reason for what is here. Should it begin to fail, `ReplayedStream` is no longer needed.
    with pytest.raises(AssertionError):
        assert_resumes_anywhere(lambda: numbers().shuffle(seed=1, buffer_size=7))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_stream_shuffled_by_datasets_is_read_again(epoch: int):
    def make() -> ReplayedStream:
        stream = as_resumable(numbers().shuffle(seed=1, buffer_size=7).map(lambda row: {"b": row["a"]}))
        assert isinstance(stream, ReplayedStream)
        return stream

    assert_resumes_anywhere(make, epoch=epoch)


def test_reading_again_is_announced(caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("hf_contrastive.data.shuffling")
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, logger=logger.name):
        as_resumable(numbers().shuffle(seed=1))
    logger.removeHandler(caplog.handler)
    assert "has a shuffle buffer, whose content `datasets` does not save" in caplog.text


def test_a_stream_without_a_buffer_is_left_as_it_is():
    stream = numbers().map(lambda row: row)
    assert as_resumable(stream) is stream


def test_orders_that_differ_have_other_settings():
    streams = [
        numbers().shuffle(seed=1),
        numbers().shuffle(seed=2),
        shuffle_stream(numbers(), seed=1),
        shuffle_stream(numbers(), seed=2),
        shuffle_stream(numbers(), seed=2, buffer_size=3),
        shuffle_stream(numbers().shuffle(seed=1), seed=2, buffer_size=3),
    ]
    settings = [repr(random_settings(stream)) for stream in streams]
    assert len(set(settings)) == len(settings)
    assert repr(random_settings(numbers().shuffle(seed=1))) == settings[0]
