import logging
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler

from hf_contrastive.data.samplers import MixedSampler, NoDuplicatesSampler, quotas


VALUES = [i % 17 for i in range(100)]


def batches(sampler: torch.utils.data.Sampler[int], size: int) -> list[list[int]]:
    return list(BatchSampler(sampler, size, drop_last=True))


def test_no_batch_has_a_value_twice():
    sampler = NoDuplicatesSampler(VALUES, 8)
    found = batches(sampler, 8)
    assert len(found) == len(sampler) // 8 == 12
    assert all(len({VALUES[row] for row in batch}) == 8 for batch in found)


def test_orders_depend_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = NoDuplicatesSampler(VALUES, 8, seed=seed)
        sampler.set_epoch(epoch)
        torch.manual_seed(epoch)
        np.random.seed(seed)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


@pytest.mark.parametrize(
    ("values", "size", "level", "text"),
    [
        (VALUES, 8, logging.INFO, "4 of 100 rows are left out of each epoch, others each time"),
        ([0] * 60 + VALUES[:40], 8, logging.WARNING, "60 of 100 rows are left out of each epoch"),
    ],
    ids=["a tail", "a frequent value"],
)
def test_rows_that_are_left_out_are_counted(
    values: list[int], size: int, level: int, text: str, caplog: pytest.LogCaptureFixture
):
    logger = logging.getLogger("hf_contrastive.data.samplers")
    with caplog.at_level(level, logger=logger.name):
        logger.addHandler(caplog.handler)
        NoDuplicatesSampler(values, size)
        logger.removeHandler(caplog.handler)
    assert text in caplog.text


def test_rows_that_are_left_out_are_others_in_each_epoch():
    sampler = NoDuplicatesSampler(VALUES, 8)
    left = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        left.append(frozenset(range(100)) - set(sampler))
    assert all(len(rows) == 4 for rows in left)
    assert len(set(left)) == 3


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(ValueError, match=r"has 20 rows, no two of which may share a value, but the 100 rows have 17"):
        NoDuplicatesSampler(VALUES, 20)


# ---- Several datasets ----

SIZES = {"large": 90, "small": 10}


def origins(sampler: MixedSampler, size: int) -> list[set[str]]:
    return [{"large" if row < 90 else "small" for row in batch} for batch in batches(sampler, size)]


def test_by_default_each_row_comes_once():
    assert sorted(MixedSampler(SIZES, 10)) == list(range(100))


@pytest.mark.parametrize("homogeneous", [False, True])
def test_weights_are_the_shares_of_rows(homogeneous: bool):
    sampler = MixedSampler(SIZES, 5, weights={"large": 3, "small": 1}, homogeneous=homogeneous)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 120
    assert sum(row >= 90 for row in rows) == 30
    counts = Counter(rows)
    assert set(counts) == set(range(100)), "every row was there"
    assert {counts[row] for row in range(90)} == {1}
    assert {counts[row] for row in range(90, 100)} == {3}


def test_first_exhausted_repeats_no_row():
    sampler = MixedSampler(SIZES, 5, weights={"large": 1, "small": 1}, stopping="first_exhausted")
    rows = list(sampler)
    assert len(rows) == len(set(rows)) == 20
    assert sum(row >= 90 for row in rows) == 10


def test_homogeneous_batches_are_of_one_dataset_each():
    mixed = MixedSampler(SIZES, 5, weights={"large": 1, "small": 1})
    homogeneous = MixedSampler(SIZES, 5, weights={"large": 1, "small": 1}, homogeneous=True)
    assert any(len(names) == 2 for names in origins(mixed, 5))
    found = origins(homogeneous, 5)
    assert all(len(names) == 1 for names in found)
    assert Counter(next(iter(names)) for names in found) == {"large": 18, "small": 18}
    assert found != sorted(found, key=sorted), "in random order"


def test_homogeneous_batches_can_be_without_duplicates():
    values = [f"large/{i % 9}" for i in range(90)] + [f"small/{i % 5}" for i in range(10)]
    sampler = MixedSampler(SIZES, 5, weights={"large": 1, "small": 1}, homogeneous=True, values=values)
    found = batches(sampler, 5)
    assert len(found) == 36
    assert all(len({values[row] for row in batch}) == 5 for batch in found)


def test_duplicates_can_be_kept_out_of_homogeneous_batches_only():
    with pytest.raises(ValueError, match="must be homogeneous"):
        MixedSampler(SIZES, 5, values=list(range(100)))


def test_a_dataset_that_fills_no_batch_is_named():
    with pytest.raises(ValueError, match=r"Datasets \['small'\] cannot fill one global batch of 20 rows"):
        MixedSampler(SIZES, 20, homogeneous=True)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"large": 1}, r"must name the datasets \['large', 'small'\], but got \['large'\]"),
        ({"large": 1, "small": 0}, r"must be positive and finite, but got \{'small': 0\}"),
        ({"large": float("nan"), "small": 1}, "must be positive and finite"),
    ],
)
def test_weights_must_be_positive_and_of_every_dataset(weights: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        MixedSampler(SIZES, 5, weights=weights)


def test_an_unknown_stopping_is_refused():
    with pytest.raises(ValueError, match="`stopping` must be 'first_exhausted' or 'all_exhausted', but got 'never'"):
        quotas(SIZES, None, "never")
