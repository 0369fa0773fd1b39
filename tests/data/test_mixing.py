from collections import Counter

import pytest
from datasets import Dataset

from hf_contrastive.data import MixedDataset, MixedStream, PairDataset, mix_datasets
from hf_contrastive.data.columns import column_values
from hf_contrastive.data.streams import to_rows
from tests.conftest import make_pairs

from .streams import assert_resumes_anywhere, numbers


def maps() -> dict[str, Dataset]:
    return {"large": Dataset.from_dict({"a": list(range(90))}), "small": Dataset.from_dict({"a": list(range(10))})}


def streams() -> dict[str, object]:
    return {"large": numbers(90, shards=4), "small": numbers(10, shards=2, start=1000)}


# ---- Maps ----


def test_rows_know_the_dataset_they_are_from():
    mixed = mix_datasets(maps())
    assert isinstance(mixed, MixedDataset)
    assert len(mixed) == 100
    assert mixed[89] == {"a": 89, "dataset_name": "large"}
    assert mixed[90] == {"a": 0, "dataset_name": "small"}
    assert mixed.__getitems__([95, 3, 91]) == [mixed[95], mixed[3], mixed[91]]


def test_datasets_of_pairs_can_be_mixed():
    mixed = mix_datasets({"one": PairDataset(make_pairs(3)), "other": PairDataset(make_pairs(4))})
    assert [row["text"] for row in mixed.__getitems__([0, 3])] == ["a red picture number 0"] * 2
    assert mixed[5]["dataset_name"] == "other"


def test_equal_values_of_two_datasets_are_not_the_same():
    values = column_values(mix_datasets(maps()), "a")
    assert len(values) == len(set(values)) == 100


def test_the_sampler_of_a_mix_has_its_weights():
    sampler = mix_datasets(maps(), weights={"large": 1, "small": 1}, homogeneous_batches=True).sampler(5)
    assert Counter(row >= 90 for row in sampler) == {False: 90, True: 90}


@pytest.mark.parametrize(("temperature", "small"), [(1.0, 10), (2.0, 30), (1e9, 90)])
def test_a_temperature_lifts_small_datasets(temperature: float, small: int):
    # Shares 90^(1/t) to 10^(1/t): 9:1, 3:1 and 1:1, with each of the 90 large rows once.
    sampler = mix_datasets(maps(), temperature=temperature).sampler(5)
    assert sampler.taken == {"large": 90, "small": small}


# ---- Streams ----


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


# ---- Errors ----


def test_maps_and_streams_cannot_be_mixed():
    with pytest.raises(ValueError, match=r"all maps or all streams, but only \['small'\] are streams"):
        mix_datasets({"large": maps()["large"], "small": numbers()})


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`datasets` must name at least one dataset"):
        mix_datasets({})


@pytest.mark.parametrize("kind", [maps, streams])
def test_weights_must_name_the_datasets(kind):
    with pytest.raises(ValueError, match=r"`weights` must name the datasets \['large', 'small'\]"):
        mix_datasets(kind(), weights={"large": 1.0})


def test_a_temperature_is_of_maps_and_positive():
    for arguments in ({"temperature": 0.0}, {"temperature": 1.0, "weights": {"large": 1, "small": 1}}):
        with pytest.raises(ValueError, match="`temperature` must be positive and takes the place of `weights`"):
            mix_datasets(maps(), **arguments)
    with pytest.raises(ValueError, match="`temperature` must be positive and takes the place of `weights`"):
        mix_datasets(streams(), temperature=2.0)
