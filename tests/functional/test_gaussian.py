import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.distributions import MultivariateNormal, kl_divergence

from hf_contrastive.functional.gaussian import (
    characteristic_sums,
    epps_pulley,
    gaussian_kl,
    random_directions,
    sliced_gaussianity,
)
from tests.functional.rows import random_rows, unit_rows


def directions(d: int, num: int) -> Tensor:
    return random_directions(d, num, torch.Generator().manual_seed(0))


def dense_kl(x: Tensor, variance: float, shrinkage: float) -> Tensor:
    """torch's own divergence of the two Gaussians."""
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    covariance = (1 - shrinkage) * torch.cov(x.T, correction=0) + shrinkage * variance * eye
    return kl_divergence(MultivariateNormal(x.mean(0), covariance), MultivariateNormal(0 * x[0], variance * eye))


@pytest.mark.parametrize(("n", "shrinkage"), [(20, 0.0), (20, 0.1), (3, 0.3), (1, 0.3)])
@pytest.mark.parametrize("variance", [None, 0.7])
def test_matches_the_divergence_of_two_gaussians_in_value_and_gradient(
    n: int, shrinkage: float, variance: float | None
):
    x = random_rows(n, 4).requires_grad_()
    actual = gaussian_kl(x, variance=variance, shrinkage=shrinkage, normalize=False)
    expected = dense_kl(x, variance or 1 / 4, shrinkage)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-9)
    grads = [torch.autograd.grad(value, x)[0] for value in (actual, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)
    scaled = gaussian_kl(x, variance=variance, shrinkage=shrinkage)
    unit = dense_kl(x / x.norm(dim=1, keepdim=True), variance or 1 / 4, shrinkage)
    torch.testing.assert_close(scaled, unit, rtol=1e-10, atol=1e-9)


def test_gradients_match_finite_differences():
    assert gradcheck(lambda x: gaussian_kl(x), (random_rows(5, 3).requires_grad_(),))
    lines = directions(3, 4)
    assert gradcheck(lambda x: sliced_gaussianity(x, lines), (random_rows(5, 3).requires_grad_(),))


@pytest.mark.parametrize("shrinkage", [0.01, 0.1, 0.9])
@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
def test_of_unit_rows_is_at_least_half_the_width_times_the_squared_mean(shrinkage: float, shift: float):
    """The sharp bound of papers.md section 2 for the divergence from the sphere's uniform distribution."""
    x = random_rows(50, 6) + shift
    x = x / x.norm(dim=1, keepdim=True)
    bound = 6 / 2 * x.mean(0).square().sum().item()
    assert gaussian_kl(x, shrinkage=shrinkage).item() > bound


def test_is_zero_for_evenly_spread_rows_and_grows_as_they_gather():
    even = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    assert gaussian_kl(even).item() == pytest.approx(0, abs=1e-12)
    values = [gaussian_kl(even + shift).item() for shift in (0.0, 0.1, 1.0, 10.0)]
    assert values == sorted(values)
    assert values[-1] > 1


def test_of_raw_rows_is_least_at_the_targets_variance():
    even = torch.cat([torch.eye(4), -torch.eye(4)]).double()  # variance 1/4
    values = {s: gaussian_kl(s * even, variance=1.0, normalize=False).item() for s in (1.5, 2.0, 2.5)}
    assert values[2.0] == pytest.approx(0, abs=1e-12)
    assert min(values, key=values.get) == 2.0


# ---- Slices ----


def algorithm_1(x: Tensor, lines: Tensor) -> Tensor:
    """Balestriero & LeCun 2025, in complex numbers."""
    u = torch.linspace(-5, 5, 17, dtype=x.dtype)
    normal = torch.exp(-0.5 * u**2)
    empirical = torch.exp(1j * (x @ lines).unsqueeze(2) * u).mean(dim=0)
    return (torch.trapezoid((empirical - normal).abs() ** 2 * normal, u, dim=1) * len(x)).mean()


def test_sliced_gaussianity_matches_the_papers_algorithm_in_value_and_gradient():
    x, lines = random_rows(9, 5).requires_grad_(), directions(5, 7)
    actual, expected = sliced_gaussianity(x, lines), algorithm_1(x, lines)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(*[torch.autograd.grad(v, x)[0] for v in (actual, expected)], rtol=0, atol=1e-9)


def test_the_statistic_is_that_of_epps_and_pulley_in_closed_form():
    """Their integral over the line, which the trapezoids approach: sums over all pairs of rows."""
    z = random_rows(12, 1)
    n, differences = len(z), z - z.T
    pairs = torch.exp(-differences.square() / 2).sum() / n
    singles = math.sqrt(2) * torch.exp(-z.square() / 4).sum()
    exact = math.sqrt(2 * math.pi) * (pairs - singles + n / math.sqrt(3))
    # The rule has 17 points: it is good to three digits.
    assert epps_pulley(characteristic_sums(z), n).item() == pytest.approx(exact.item(), rel=1e-3)


def test_normal_samples_have_the_expected_statistic_whatever_their_number_and_others_a_larger_one():
    for n in (50, 500):
        z = random_rows(n, 400, seed=n)
        values = epps_pulley(characteristic_sums(z), n)
        error = values.std().item() / math.sqrt(400)
        assert abs(values.mean().item() - 1.06) < 4 * error < 0.25
    shifted, wide = (epps_pulley(characteristic_sums(x), 500).mean() for x in (z + 1, 2 * z))
    assert min(shifted, wide).item() > 20


def test_sums_of_parts_add_up_and_no_rows_sum_to_zero_with_a_graph():
    x = random_rows(6, 3).requires_grad_()
    parts = characteristic_sums(x[:2]) + characteristic_sums(x[2:]) + characteristic_sums(x[:0])
    torch.testing.assert_close(parts, characteristic_sums(x), rtol=0, atol=1e-12)
    none = characteristic_sums(x[:0])
    assert none.requires_grad
    assert none.eq(0).all()


def test_the_spheres_uniform_distribution_comes_close_as_the_width_grows():
    values = [sliced_gaussianity(math.sqrt(d) * unit_rows(4000, d), directions(d, 64)).item() for d in (2, 8, 128)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 10
    assert values[2] == pytest.approx(1.06, abs=0.5)


def test_directions_are_unit_vectors_of_no_preferred_direction():
    lines = directions(3, 4000)
    torch.testing.assert_close(lines.norm(dim=0), torch.ones(4000, dtype=torch.float64))
    np.testing.assert_allclose(lines @ lines.T / 4000, np.eye(3) / 3, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinkage": 1.0}, "`shrinkage` is a share of the target, at least 0 and below 1, but got 1.0."),
        (
            {"shrinkage": 0.0},
            "3 rows of width 4 have a singular covariance, so `shrinkage` must be above 0, but got 0.",
        ),
        ({"variance": -1.0}, "`variance` must be positive and finite, but got -1.0."),
    ],
)
def test_refuses_what_it_is_not_defined_for(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gaussian_kl(random_rows(3, 4), **options)


def test_rows_on_a_line_need_shrinkage_however_many_there_are():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(8, 1)
    with pytest.raises(ValueError, match=r"The covariance of 16 rows of width 2 is singular at a `shrinkage` of 0"):
        gaussian_kl(x, shrinkage=0.0)
    assert gaussian_kl(x, shrinkage=0.1).isfinite()
