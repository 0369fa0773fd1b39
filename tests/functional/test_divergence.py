import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import (
    PairMask,
    divergence_of_halves,
    info_nce,
    log_density_ratio,
    log_partition,
    self_log_partition,
    smoothed_divergence,
)
from tests.functional.dense import close
from tests.functional.rows import double, random_rows, unit_rows


def ratio_loop(
    own: Tensor,
    other: Tensor,
    rows: list[int],
    scale: float,
    own_candidates: list[int] | None = None,
    other_candidates: list[int] | None = None,
) -> list[float]:
    """Log ratio of two kernel density estimates, the own one without the query itself."""
    ratios = []
    for i in rows:
        inside = [j for j in own_candidates or range(len(own)) if j != i]
        outside = list(other_candidates or range(len(other)))
        density = sum(math.exp(scale * float(own[i] @ own[j])) for j in inside) / len(inside)
        elsewhere = sum(math.exp(scale * float(own[i] @ other[j])) for j in outside) / len(outside)
        ratios.append(math.log(density / elsewhere))
    return ratios


def as_mask(indices: list[int], size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill(0, torch.tensor(indices), True)


def log_ratios(
    own: Tensor,
    other: Tensor,
    rows: list[int],
    scale: Tensor | float,
    own_candidates: list[int] | None = None,
    other_candidates: list[int] | None = None,
) -> Tensor:
    """The function under test on the sums that it asks for."""
    own_keys = as_mask(own_candidates or list(range(len(own))), len(own))
    other_keys = as_mask(other_candidates or list(range(len(other))), len(other))
    inside = log_partition(own[rows], own, scale, mask=PairMask(keys=own_keys, skip=torch.tensor(rows)))
    outside = log_partition(own[rows], other, scale, mask=PairMask(keys=other_keys))
    return log_density_ratio(inside, outside, own_keys.sum(), other_keys.sum())


def test_log_density_ratio_matches_a_loop():
    own, other, rows = unit_rows(6, 4), unit_rows(5, 4, seed=1), [1, 4, 5]
    actual = log_ratios(own, other, rows, 3.0)
    assert actual.tolist() == pytest.approx(ratio_loop(own, other, rows, 3.0), abs=1e-12)


def test_log_density_ratio_counts_candidates_only():
    own, other, rows = unit_rows(6, 4), unit_rows(5, 4, seed=1), [1, 4, 5]
    candidates = [0, 1, 4, 5], [0, 3]
    actual = log_ratios(own, other, rows, 3.0, *candidates)
    assert actual.tolist() == pytest.approx(ratio_loop(own, other, rows, 3.0, *candidates), abs=1e-12)


def test_a_ratio_counts_rows_by_numbers_or_tensors_in_the_precision_of_the_sums():
    inside, outside = random_rows(1, 4)[0], random_rows(1, 4, seed=1)[0]
    numbers = log_density_ratio(inside, outside, 6, 5)
    assert numbers.equal(log_density_ratio(inside, outside, torch.tensor(6), torch.tensor(5)))
    close(numbers, inside - math.log(5) - outside + math.log(5), 1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_alone_in_its_cloud_has_ratio_zero_and_no_gradient(dtype: torch.dtype):
    x, other = unit_rows(1, 3).to(dtype).requires_grad_(), unit_rows(4, 3, seed=1).to(dtype)
    ratio = log_density_ratio(self_log_partition(x, 3.0), log_partition(x, other, 3.0), 1, 4)
    assert ratio.tolist() == [0]
    assert torch.autograd.grad(ratio.sum(), x)[0].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_has_a_query_whose_cloud_is_all_left_out(dtype: torch.dtype):
    # All rows show the same, so that none is a sample of the cloud beside another.
    x, other = unit_rows(4, 3).to(dtype).requires_grad_(), unit_rows(4, 3, seed=1).to(dtype)
    ids = torch.zeros(4, dtype=torch.long)
    inside = self_log_partition(x, 3.0, mask=PairMask(query_ids=ids, key_ids=ids))
    ratio = log_density_ratio(inside, log_partition(x, other, 3.0), 4, 4)
    assert ratio.tolist() == [0] * 4
    assert torch.autograd.grad(ratio.sum(), x)[0].eq(0).all()


def test_gradients_of_the_ratio_match_finite_differences():
    own, other, rows = unit_rows(5, 3).requires_grad_(), unit_rows(4, 3, seed=1).requires_grad_(), [0, 3]
    assert gradcheck(lambda own, other, s: log_ratios(own, other, rows, s), (own, other, double(3.0)))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_divergence_matches_a_loop_over_rows(temperature: float, tile: int):
    x, y = random_rows(6, 4), random_rows(5, 4, seed=1)
    unit_x, unit_y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    halves = [
        ratio_loop(unit_x, unit_y, list(range(6)), 1 / temperature),
        ratio_loop(unit_y, unit_x, list(range(5)), 1 / temperature),
    ]
    expected = sum(sum(half) / len(half) for half in halves) / 2
    actual = smoothed_divergence(x, y, temperature=temperature)
    assert actual.item() == pytest.approx(expected, abs=1e-12)


def test_divergence_takes_raw_rows_on_request():
    x, y = random_rows(6, 4), random_rows(5, 4, seed=1)
    expected = (sum(ratio_loop(x, y, list(range(6)), 1.0)) / 6 + sum(ratio_loop(y, x, list(range(5)), 1.0)) / 5) / 2
    actual = smoothed_divergence(x, y, temperature=1.0, normalize=False)
    assert actual.item() == pytest.approx(expected, abs=1e-12)


def test_divergence_is_symmetric_and_differentiable():
    x, y = random_rows(5, 3), random_rows(4, 3, seed=1)
    torch.testing.assert_close(smoothed_divergence(x, y), smoothed_divergence(y, x), rtol=0, atol=1e-12)
    assert gradcheck(lambda x, y: smoothed_divergence(x, y, temperature=0.3), (x.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_clip_plus_divergence_is_alignment_plus_uniformity_within_each_modality(temperature: float):
    """The decoupling identity of Cai et al. 2026: cross-modal repulsion cancels exactly."""
    n, scale, rows = 7, 1 / temperature, torch.arange(7)
    x, y = unit_rows(n, 4), unit_rows(n, 4, seed=1)
    clip = (info_nce(x, y, rows, scale).mean() + info_nce(y, x, rows, scale).mean()) / 2
    left = clip + smoothed_divergence(x, y, temperature=temperature)

    attraction = -scale * sum(float(x[i] @ y[i]) for i in range(n)) / n
    repulsion = 0.0
    for z in (x, y):
        for i in range(n):
            own = sum(math.exp(scale * float(z[i] @ z[j])) for j in range(n) if j != i) / (n - 1)
            repulsion += math.log(own) / (2 * n)
    assert left.item() == pytest.approx(attraction + repulsion + math.log(n), abs=1e-9)


def test_two_samples_of_one_cloud_hardly_diverge():
    # Over seeds the value is -0.000 +- 0.002 at this temperature and size.
    x, y = unit_rows(600, 3), unit_rows(600, 3, seed=1)
    assert abs(smoothed_divergence(x, y, temperature=0.5).item()) < 0.01


def test_divergence_grows_as_clouds_part():
    x, y = random_rows(200, 3), random_rows(200, 3, seed=1)
    shift = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    values = [smoothed_divergence(x, y + offset * shift, temperature=0.2).item() for offset in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values)
    assert values[-1] > 10 * abs(values[0])


@pytest.mark.parametrize(
    ("temperature", "mean", "deviation"), [(0.05, 0.648, 0.031), (0.1, 0.560, 0.025), (0.3, 0.356, 0.013)]
)
def test_divergence_of_two_von_mises_samples_is_the_known_one(temperature: float, mean: float, deviation: float):
    # Leave-one-out estimates over seeds of 2000 angles each; the exact divergence, unsmoothed, is 0.697.
    generator = np.random.default_rng(0)
    x, y = (
        torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1))
        for angles in (generator.vonmises(0, 4, 2000), generator.vonmises(0.7, 2, 2000))
    )
    assert smoothed_divergence(x, y, temperature=temperature).item() == pytest.approx(mean, abs=4 * deviation)


def test_a_cloud_of_one_row_is_refused():
    with pytest.raises(ValueError, match=r"^`y` must have at least 2 rows, but got shape \[1, 3\]\.$"):
        smoothed_divergence(unit_rows(4, 3), unit_rows(1, 3))


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float):
    with pytest.raises(ValueError, match="`temperature` must be positive and finite"):
        smoothed_divergence(unit_rows(4, 3), unit_rows(4, 3), temperature=temperature)


# ---- As a measure, between halves ----


def test_a_divergence_of_halves_is_the_mean_of_both_ways_to_cross_them():
    x, y = unit_rows(12, 3), unit_rows(12, 3, seed=1)
    half = torch.randperm(12, generator=torch.Generator().manual_seed(4)) % 2
    (x0, x1), (y0, y1) = ([z[half == i] for i in (0, 1)] for z in (x, y))
    actual = divergence_of_halves(2 * x, y, temperature=0.3, seed=4)
    crossed = [smoothed_divergence(x0, y1, temperature=0.3), smoothed_divergence(x1, y0, temperature=0.3)]
    within = [smoothed_divergence(x0, x1, temperature=0.3), smoothed_divergence(y0, y1, temperature=0.3)]
    assert actual.divergence.item() == pytest.approx(sum(crossed).item() / 2, abs=1e-12)
    assert actual.floor.item() == pytest.approx(sum(within).item() / 2, abs=1e-12)
    assert actual.divergence.item() == pytest.approx((actual.x_from_y + actual.y_from_x).item() / 2, abs=1e-12)


def test_its_sides_are_those_of_the_smoothed_densities():
    temperature, angles = 0.1, torch.arange(512, dtype=torch.float64) * (2 * math.pi / 512)
    kernels = torch.exp((torch.cos(angles.unsqueeze(1) - angles) - 1) / temperature)
    laws = [torch.exp(kappa * torch.cos(angles - mean)) for mean, kappa in ((0, 4), (0.7, 2))]
    p, q = (law / law.sum() for law in laws)
    log_ratio = (kernels @ p).log() - (kernels @ q).log()
    generator = np.random.default_rng(1)
    clouds = [torch.from_numpy(generator.vonmises(mean, kappa, 3000)) for mean, kappa in ((0, 4), (0.7, 2))]
    actual = divergence_of_halves(*(torch.stack([z.cos(), z.sin()], dim=1) for z in clouds), temperature=temperature)
    # The deviation over seeds is 0.02 at this size.
    assert actual.x_from_y.item() == pytest.approx((p * log_ratio).sum().item(), abs=0.08)
    assert actual.y_from_x.item() == pytest.approx(-(q * log_ratio).sum().item(), abs=0.08)
    assert (p * log_ratio).sum() < -(q * log_ratio).sum() - 0.1


def test_matched_rows_hide_a_gap_from_the_plain_divergence_but_not_from_halves():
    x = unit_rows(400, 8)
    y = x + 0.05 * random_rows(400, 8, seed=1) + torch.eye(8, dtype=torch.float64)[0] * 0.3
    halves = divergence_of_halves(x, y, temperature=0.05)
    assert smoothed_divergence(x, y, temperature=0.05) < 0
    assert halves.divergence > halves.floor + 0.03


def test_items_of_several_rows_stay_in_one_half():
    x, y = unit_rows(8, 3), unit_rows(8, 3).repeat_interleave(3, dim=0)
    ids = torch.arange(8)
    actual = divergence_of_halves(x, y, x_ids=ids, y_ids=ids.repeat_interleave(3), temperature=0.2)
    half = torch.randperm(8, generator=torch.Generator().manual_seed(0)) % 2
    parts = [(x[half == i], y[half.repeat_interleave(3) == 1 - i]) for i in (0, 1)]
    expected = sum(smoothed_divergence(*part, temperature=0.2) for part in parts) / 2
    assert actual.divergence.item() == pytest.approx(expected.item(), abs=1e-12)


def test_halves_need_two_rows_each():
    with pytest.raises(ValueError, match="`x` must have at least 4 rows"):
        divergence_of_halves(unit_rows(3, 3), unit_rows(8, 3))
    ids = torch.tensor([0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"Each half of `x` must have at least 2 rows, but got \["):
        divergence_of_halves(unit_rows(4, 3), unit_rows(4, 3), x_ids=ids, y_ids=ids)
