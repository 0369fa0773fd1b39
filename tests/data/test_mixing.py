from collections import Counter

import pytest
from datasets import Dataset

from hf_contrastive.data import MixedDataset, PairDataset, mix_datasets
from hf_contrastive.data.columns import column_values
from tests.conftest import make_pairs

from .streams import numbers


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
