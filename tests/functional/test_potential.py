"""The log mean potential against all distances, `torch.pdist`."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import uniformity
from hf_contrastive.functional.potential import log_mean_potential
from tests.functional.dense import close
from tests.functional.rows import random_rows, unit_rows


def by_distances(x: Tensor, t: float) -> Tensor:
    """Wang & Isola 2020, Section 4.1.2, with the log of the mean taken stably."""
    exponents = -t * torch.pdist(x).square()
    return exponents.logsumexp(0) - math.log(len(exponents))


# Two clouds that lie far apart and one row alone, so that potentials span hundreds of orders of magnitude.
CLOUDS = {
    "unit rows": unit_rows(7, 4),
    "two rows": unit_rows(2, 4),
    "three rows": random_rows(3, 2),
    "rows of any length": 2 * random_rows(7, 4),
    "far rows": 30 * random_rows(6, 3),
    "far rows around the origin": 30 * torch.cat([random_rows(6, 3), torch.zeros(1, 3, dtype=torch.float64)]),
    "clouds": torch.cat([random_rows(4, 3), random_rows(4, 3, seed=1) + 15, random_rows(1, 3) - 90]),
    "one tile full": unit_rows(8, 3),
}
of_every_cloud = pytest.mark.parametrize("x", CLOUDS.values(), ids=CLOUDS.keys())


@of_every_cloud
@pytest.mark.parametrize("t", [1e-3, 0.5, 2.0, 50.0, 1e4])
def test_value_and_gradient_match_all_distances(x: Tensor, t: float, tile: int):
    x = x.clone().requires_grad_()
    actual, expected = log_mean_potential(x, t), by_distances(x, t)
    # Exponents are differences of numbers as large as t times the longest square.
    largest = max(1.0, t * float(x.detach().square().sum(dim=1).max()))
    close(actual, expected, 1e-14 * largest + 1e-12)
    (ours,), (theirs,) = (torch.autograd.grad(3 * value, x) for value in (actual, expected))
    close(ours, theirs, 1e-13 * largest + 1e-12)


@pytest.mark.parametrize("t", [0.5, 2.0, 50.0])
@pytest.mark.parametrize("distance", [0.0, 10.0, 1e4])
def test_where_the_cloud_lies_does_not_matter(t: float, distance: float, tile: int):
    x = random_rows(7, 4).requires_grad_()
    far = (x + distance * torch.tensor([1.0, -2.0, 0.5, 1.0])).detach().requires_grad_()
    actual, expected = uniformity(far, t=t, normalize=False), by_distances(x, t)
    # The rows themselves round when they are moved.
    close(actual, expected, 1e-11 * max(1.0, distance))
    close(torch.autograd.grad(actual, far), torch.autograd.grad(expected, x), 1e-10 * max(1.0, distance))


@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0])
def test_single_precision_stands_a_distant_origin(offset: float, tile: int):
    x = random_rows(7, 4)
    single = (x + offset).float().requires_grad_()
    exact = single.detach().double().requires_grad_()
    actual, expected = uniformity(single, normalize=False), by_distances(exact, 2.0)
    close(actual.double(), expected, 2e-6)
    close([g.double() for g in torch.autograd.grad(actual, single)], torch.autograd.grad(expected, exact), 1e-5)


def test_single_precision_does_not_lose_potentials_that_underflow(tile: int):
    x = (8 * unit_rows(7, 4)).float().requires_grad_()
    exact = x.detach().double().requires_grad_()
    expected = by_distances(exact, 50.0)
    assert expected.item() < -200  # exp of it is zero in single precision
    actual = log_mean_potential(x, 50.0)
    # Exponents of three thousand round by two thousandths.
    assert actual.item() == pytest.approx(expected.item(), abs=5e-3)
    close([g.double() for g in torch.autograd.grad(actual, x)], torch.autograd.grad(expected, exact), 5e-3)


def test_equal_rows_have_potential_one_and_no_gradient(tile: int):
    x = torch.ones(9, 3, dtype=torch.float64, requires_grad=True)
    value = log_mean_potential(x, 2.0)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(value, x)[0].abs().max().item() < 1e-12


def test_gradients_match_finite_differences(small_tiles: int):
    for x in (random_rows(7, 3), random_rows(2, 3), 20 * random_rows(5, 3)):
        assert gradcheck(lambda x: log_mean_potential(x, 0.7), x.requires_grad_())


@pytest.mark.parametrize("length", [1.0, 1e3], ids=["bounded", "measured from the largest"])
def test_what_is_not_a_number_is_not_hidden(length: float, tile: int):
    x = length * unit_rows(7, 4)
    x[5, 1] = torch.nan
    assert log_mean_potential(x, 2.0).isnan()


def test_a_row_that_is_not_a_number_is_refused_by_name():
    x = unit_rows(7, 4)
    x[5, 1] = torch.nan
    with pytest.raises(ValueError, match=r"^`x` holds rows that are not finite: row 5 is the first of 1\.$"):
        uniformity(x, normalize=False)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(7)), length=st.sampled_from([0.5, 1.0, 40.0]))
def test_the_order_of_rows_does_not_matter(order: list[int], length: float):
    x = length * unit_rows(7, 4)
    assert log_mean_potential(x[order], 2.0).item() == pytest.approx(log_mean_potential(x, 2.0).item(), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(log_t=st.floats(-3, 3), length=st.floats(1e-3, 100), seed=st.integers(0, 1000), single=st.booleans())
def test_every_sharpness_gives_the_exact_mean(log_t: float, length: float, seed: int, single: bool):
    x, t = (length * unit_rows(6, 3, seed)), 10**log_t
    x = x.float() if single else x
    actual, expected = log_mean_potential(x, t), by_distances(x.double(), t)
    largest = 1 + t * length**2
    assert actual.item() == pytest.approx(expected.item(), abs=40 * torch.finfo(x.dtype).eps * largest)
