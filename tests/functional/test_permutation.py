import inspect
import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import (
    alignment,
    energy_distance,
    hoelder_divergence,
    modality_control,
    modality_gap,
    pairing_control,
    retrieval_ranks,
)
from hf_contrastive.functional.permutation import deal_variance
from tests.functional.rows import random_rows, unit_rows


def squared_distance(kernel: Tensor, n: int, order: tuple[int, ...]) -> float:
    """The U-statistic of the first n rows in `order` and the others."""
    first, second = order[:n], order[n:]
    own = [
        sum(float(kernel[i, j]) for i in side for j in side if i != j) / (len(side) * (len(side) - 1))
        for side in (first, second)
    ]
    cross = sum(float(kernel[i, j]) for i in first for j in second) / (len(first) * len(second))
    return sum(own) - 2 * cross


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 4), (3, 3)])
def test_the_variance_over_deals_is_that_of_all_permutations(n: int, m: int):
    x = random_rows(n + m, 3)
    kernel = torch.exp(-torch.cdist(x, x)) + 5
    values = torch.tensor([squared_distance(kernel, n, order) for order in permutations(range(n + m))])
    off = kernel.clone().fill_diagonal_(0)
    actual = deal_variance(n, m, off.square().sum(), off.sum(dim=1).square().sum(), off.sum())
    assert values.double().mean().item() == pytest.approx(0, abs=1e-6)
    assert actual.item() == pytest.approx(values.double().var(correction=0).item(), rel=1e-5)


def test_rows_that_are_all_alike_have_no_variance_over_deals():
    off = torch.ones(6, 6, dtype=torch.float64).fill_diagonal_(0)
    assert deal_variance(3, 3, off.square().sum(), off.sum(dim=1).square().sum(), off.sum()).item() == 0


def test_shuffled_pairs_lose_what_pairs_say_and_keep_what_clouds_say():
    x = unit_rows(60, 8)
    y = x + 0.1 * random_rows(60, 8, seed=1)
    aligned = pairing_control(alignment, x, y)
    assert aligned.z < -10
    assert aligned.p == pytest.approx(1 / 21)
    # Unrelated unit rows lie two apart in square; the mean over 60 pairs and 20 shuffles scatters by about 0.02.
    assert aligned.mean == pytest.approx(
        2 - 2 * float(x.mean(0) @ (y / y.norm(dim=1, keepdim=True)).mean(0)), abs=0.06
    )
    recall = pairing_control(lambda x, y: retrieval_ranks(x, y).recall(1), x, y)
    assert recall.value > 0.9
    assert recall.mean < 0.1
    gap = pairing_control(lambda x, y: modality_gap(x, y).gap, x, y)
    assert gap.value == pytest.approx(gap.mean, abs=1e-12)
    assert math.isnan(gap.z)
    assert gap.p == 1


def test_mean_and_deviation_are_those_over_seeded_orders():
    x, y = unit_rows(9, 4), unit_rows(9, 4, seed=1)
    generator = torch.Generator().manual_seed(3)
    values = torch.stack([alignment(x, y[torch.randperm(9, generator=generator)]) for _ in range(5)])
    state = torch.get_rng_state()
    control = pairing_control(alignment, x, y, shuffles=5, seed=3)
    assert torch.get_rng_state().equal(state)
    assert control.mean == pytest.approx(values.mean().item(), abs=1e-12)
    assert control.std == pytest.approx(values.std().item(), abs=1e-12)
    assert control.z == pytest.approx((control.value - control.mean) / control.std)


def test_dealt_rows_give_the_floor_and_the_deviation_that_are_known_exactly():
    x, y = unit_rows(40, 5), unit_rows(30, 5, seed=1)
    exact = energy_distance(x, y)
    unbiased = modality_control(lambda x, y: energy_distance(x, y).unbiased, x, y, shuffles=200)
    biased = modality_control(lambda x, y: energy_distance(x, y).biased, x, y, shuffles=200)
    # Of 200 deals the mean is known to a 14th, the deviation to a 20th of the deviation (Gaussian); both have room.
    assert unbiased.mean == pytest.approx(0, abs=0.25 * float(exact.null_std))
    assert unbiased.std == pytest.approx(float(exact.null_std), rel=0.25)
    assert biased.mean == pytest.approx(float(exact.floor), abs=0.25 * float(exact.null_std))


def test_a_gap_of_many_clouds_stands_out_against_its_floor():
    clouds = [unit_rows(20 + i, 3, seed=i) + (i == 2) for i in range(3)]
    control = modality_control(lambda *z: hoelder_divergence(z), *clouds)
    assert control.z > 5
    same = modality_control(lambda *z: hoelder_divergence(z), *[unit_rows(20, 3, seed=i) for i in range(3)])
    assert abs(same.z) < 4


def test_refuses_what_cannot_be_shuffled():
    x = unit_rows(4, 3)
    with pytest.raises(ValueError, match=r"^`x` and `y` must match row by row, but got 4 and 3 rows\.$"):
        # As users run it: without the shapes that tests check.
        inspect.unwrap(pairing_control)(alignment, x, x[:3])
    with pytest.raises(ValueError, match=r"^`shuffles` must be at least 2 .* but got 1\.$"):
        pairing_control(alignment, x, x, shuffles=1)
    with pytest.raises(ValueError, match=r"^`clouds` must be at least two to deal rows to, but got 1\.$"):
        modality_control(lambda x: x.sum(), x)
    with pytest.raises(ValueError, match=r"^`clouds\[0\]` and `clouds\[1\]` must have the same width"):
        inspect.unwrap(modality_control)(alignment, x, unit_rows(4, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_of_what_pairing_leaves_alone_is_no_finding(dtype: torch.dtype):
    x, y = random_rows(40, 8).to(dtype), random_rows(40, 8, seed=1).to(dtype)
    control = pairing_control(lambda x, y: modality_gap(x, y).gap, x, y)
    assert math.isnan(control.z)
    assert control.p == 1
