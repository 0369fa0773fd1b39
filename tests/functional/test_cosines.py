import math

import pytest
import torch
from scipy.special import iv

from hf_contrastive.functional import cosine_moments, cosine_statistics, mean_cosines
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


X_IDS, Y_IDS = torch.tensor([4, 7, 4, 9, 1]), torch.tensor([7, 4, 4, 4, 9, 9, 2])


def test_moments_are_those_of_all_cosines(tile: int):
    x, y = random_rows(9, 4) + 1, random_rows(6, 4, seed=1)
    cosines = (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T
    mean, variance = cosine_moments(x, y)
    assert mean.item() == pytest.approx(cosines.mean().item(), abs=1e-14)
    assert variance.item() == pytest.approx(cosines.var(correction=0).item(), abs=1e-14)
    raw = cosine_moments(x, y, normalize=False)
    assert raw.variance.item() == pytest.approx((x @ y.T).var(correction=0).item(), abs=1e-12)


def test_the_variance_of_a_narrow_cone_loses_no_digits():
    x, y = (1000 + random_rows(50, 3, seed) for seed in (0, 1))
    expected = (x @ y.T).var(correction=0).item()
    assert cosine_moments(x.float(), y.float(), normalize=False).variance.item() == pytest.approx(expected, rel=1e-3)
    same = torch.ones(9, 3)
    assert cosine_moments(same, same).variance.item() == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("given", [True, False], ids=["ids", "pairs"])
def test_statistics_are_those_of_matched_and_of_unmatched_pairs(given: bool, tile: int):
    x, y = (unit_rows(5, 4), unit_rows(7, 4, seed=1)) if given else (unit_rows(6, 4), unit_rows(6, 4, seed=1))
    ids = {"x_ids": X_IDS, "y_ids": Y_IDS} if given else {}
    same = X_IDS.unsqueeze(1) == Y_IDS if given else torch.eye(6, dtype=torch.bool)
    matched, unmatched = (x @ y.T)[same], (x @ y.T)[~same]
    actual = cosine_statistics(3 * x, y, **ids)
    stds = [z.std(correction=0).item() for z in (matched, unmatched)]
    assert [v.item() for v in actual[:4]] == pytest.approx(
        [matched.mean().item(), stds[0], unmatched.mean().item(), stds[1]], abs=1e-12
    )
    assert actual.expected_unmatched.item() == pytest.approx(float(x.mean(0) @ y.mean(0)), abs=1e-14)
    assert actual.uniform_std == 0.5
    pooled = math.sqrt((stds[0] ** 2 + stds[1] ** 2) / 2)
    assert actual.d_prime.item() == pytest.approx((matched.mean() - unmatched.mean()).item() / pooled, abs=1e-12)


def test_evenly_spread_rows_have_the_cosines_of_the_uniform_law():
    actual = cosine_statistics(unit_rows(2000, 16), unit_rows(2000, 16, seed=1))
    assert actual.unmatched_std.item() == pytest.approx(actual.uniform_std, rel=0.01)
    # The standard error of 2,000 matched cosines is 0.0056, that of the mean of all 1/2000 / 4.
    assert actual.matched_mean.item() == pytest.approx(0, abs=0.02)
    assert abs(actual.d_prime.item()) < 0.1


def test_a_cone_has_the_moments_of_its_von_mises_law():
    kappa, steps = 3.0, 4000
    # Quantiles of the law, by its cumulated density, so that no sampling error is left.
    grid = torch.linspace(-math.pi, math.pi, 200001, dtype=torch.float64)
    density = torch.exp(kappa * grid.cos())
    cumulated = torch.cumsum(density, 0) / density.sum()
    angles = grid[torch.searchsorted(cumulated, (torch.arange(steps, dtype=torch.float64) + 0.5) / steps)]
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    first, second = iv(1, kappa) / iv(0, kappa), iv(2, kappa) / iv(0, kappa)
    mean, variance = cosine_moments(x, x)
    assert mean.item() == pytest.approx(first**2, abs=1e-4)
    assert variance.item() == pytest.approx((1 + second**2) / 2 - first**4, abs=1e-4)


def test_memory_is_that_of_rows_and_a_matrix_of_their_width(small_tiles: int):
    x, y = unit_rows(500, 16).float(), unit_rows(500, 16, seed=1).float()
    with LargestTensor() as memory:
        cosine_statistics(x, y)
    assert memory.largest <= 500 * 16


def test_order_rotation_and_side_do_not_matter():
    x, y, rotation = random_rows(9, 4), random_rows(9, 4, seed=1), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    expected, order = cosine_statistics(x, y), torch.randperm(9, generator=torch.Generator().manual_seed(0))
    for other in ((y, x), (x[order], y[order]), (x @ rotation, y @ rotation)):
        assert [float(v) for v in cosine_statistics(*other)] == pytest.approx([float(v) for v in expected], abs=1e-12)


@pytest.mark.parametrize("given", [True, False], ids=["ids", "pairs"])
def test_mean_cosines_are_those_of_the_statistics(given: bool):
    x, y = (random_rows(5, 4), random_rows(7, 4, seed=1)) if given else (random_rows(6, 4), random_rows(6, 4, seed=1))
    ids = {"x_ids": X_IDS, "y_ids": Y_IDS} if given else {}
    means, statistics = mean_cosines(x, y, **ids), cosine_statistics(x, y, **ids)
    assert means.matched.item() == pytest.approx(statistics.matched_mean.item(), abs=1e-14)
    assert means.unmatched.item() == pytest.approx(statistics.unmatched_mean.item(), abs=1e-14)


@pytest.mark.parametrize("side", [1, -1])
def test_matches_make_no_difference_in_collapsed_clouds(side: int):
    x = random_rows(1, 7).repeat(9, 1)
    assert cosine_statistics(x, side * x).d_prime.item() == 0


def test_matches_without_any_spread_are_infinitely_far_from_others():
    assert cosine_statistics(torch.eye(4), torch.eye(4)).d_prime.item() == math.inf
