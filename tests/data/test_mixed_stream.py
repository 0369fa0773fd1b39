import pytest

from hf_contrastive.data import MixedStream, mix_datasets
from hf_contrastive.data.streams import to_rows

from .streams import assert_resumes_anywhere, numbers


def streams() -> dict[str, object]:
    return {"large": numbers(90, shards=4), "small": numbers(10, shards=2, start=1000)}


@pytest.mark.parametrize("homogeneous", [False, True])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_mix_of_streams_resumes_anywhere_also_where_one_began_again(homogeneous: bool, epoch: int):
    def make() -> MixedStream:
        return mix_datasets(streams(), weights={"large": 1, "small": 2}, homogeneous_batches=homogeneous)

    assert_resumes_anywhere(make, epoch=epoch)


@pytest.mark.filterwarnings("ignore")
def test_a_mix_with_a_stream_shuffled_by_datasets_resumes_anywhere():
    def make() -> MixedStream:
        return mix_datasets({"large": numbers(90).shuffle(seed=1, buffer_size=9), "small": numbers(10)})

    assert_resumes_anywhere(make)


def rows_of(stream: MixedStream, batches: int, size: int = 5) -> list[list[dict[str, object]]]:
    return [to_rows(columns) for columns, _ in zip(stream.iter(size), range(batches), strict=False)]


def test_streams_come_in_the_given_shares():
    mixed = mix_datasets(streams(), weights={"large": 3, "small": 1})
    rows = [row for batch in rows_of(mixed, 400) for row in batch]
    assert len(rows) == 2000, "without end"
    share = sum(row["dataset_name"] == "small" for row in rows) / len(rows)
    # Five standard deviations of a share of 2,000 draws.
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 2000) ** 0.5


def test_homogeneous_batches_are_of_one_stream_each():
    found = [
        {row["dataset_name"] for row in rows}
        for rows in rows_of(mix_datasets(streams(), homogeneous_batches=True), 20)
    ]
    assert all(len(names) == 1 for names in found)
    assert {name for names in found for name in names} == {"large", "small"}


def test_all_parts_take_the_same_stream_at_the_same_step():
    # The parts are uneven: the first of "small" has 2 of 3 shards, and begins again later.
    mixed = mix_datasets(
        {"large": numbers(90, shards=4), "small": numbers(24, shards=3)}, homogeneous_batches=True, seed=4
    )
    names = [
        [rows[0]["dataset_name"] for rows in rows_of(mixed.shard(2, index, contiguous=False), 30, size=4)]
        for index in range(2)
    ]
    assert names[0] == names[1]


def test_a_stream_that_is_too_short_is_named():
    mixed = mix_datasets({"large": numbers(90), "tiny": numbers(3, shards=1)}, homogeneous_batches=True)
    with pytest.raises(ValueError, match="Stream 'tiny' of a mix has fewer than the 5 rows"):
        rows_of(mixed, 20)
