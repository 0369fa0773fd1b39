import math

import numpy as np
import pytest
import torch
from scipy import stats

from hf_contrastive.functional import coordinate_quantiles, coordinates, norm_quantiles
from hf_contrastive.functional.quantiles import chi_squared_quantiles
from tests.functional.rows import random_rows, unit_rows


@pytest.mark.parametrize("d", [1, 2, 3, 64, 4096])
def test_quantiles_of_chi_squared_are_scipys(d: int):
    shares = torch.tensor([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9], dtype=torch.float64)
    actual = chi_squared_quantiles(shares, d).numpy()
    np.testing.assert_allclose(actual, stats.chi2.ppf(shares.numpy(), d), rtol=1e-8)


@pytest.mark.parametrize(("n", "points"), [(40, 9), (5, 20), (2, 1)])
def test_observed_quantiles_are_numpys(n: int, points: int):
    x = random_rows(n, 3) + 0.5
    shares = (np.arange(points) + 0.5) / points
    lengths = np.linalg.norm(x.numpy(), axis=1)
    expected = np.quantile(lengths / np.sqrt((lengths**2).mean()), shares, method="hazen")
    np.testing.assert_allclose(norm_quantiles(x, points=points).observed.numpy(), expected, rtol=1e-12)
    z = (x - x.mean(0)).numpy() / x.std(0, correction=0).numpy()
    each = np.quantile(z, shares, axis=0, method="hazen")
    actual = coordinate_quantiles(x, points=points, normalize=False)
    np.testing.assert_allclose(actual.observed.numpy(), each.mean(1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(actual.low.numpy(), np.quantile(each, 0.05, axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(actual.high.numpy(), np.quantile(each, 0.95, axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(actual.gaussian.numpy(), stats.norm.ppf(shares), rtol=0, atol=1e-12)


def test_a_gaussian_cloud_lies_on_the_diagonal_of_both():
    x = random_rows(2000, 64)
    lengths, each = norm_quantiles(x, points=19), coordinate_quantiles(x, points=19, normalize=False)
    # The outermost of these quantiles have a standard error of 0.5 %, the inner ones of 0.2 %.
    torch.testing.assert_close(lengths.observed, lengths.gaussian, rtol=0.02, atol=0)
    torch.testing.assert_close(each.observed, each.gaussian, rtol=0, atol=0.02)
    assert (each.low < each.gaussian).all()
    assert (each.gaussian < each.high).all()


def test_scale_does_not_matter_and_unit_rows_are_no_shell_of_a_gaussian():
    x = random_rows(30, 4)
    torch.testing.assert_close(norm_quantiles(5 * x), norm_quantiles(x), rtol=0, atol=1e-12)
    assert norm_quantiles(unit_rows(30, 4)).observed.tolist() == pytest.approx([1] * 99, abs=1e-12)


def test_rows_are_scaled_by_default_and_blocks_join(monkeypatch: pytest.MonkeyPatch):
    x = random_rows(30, 6) * torch.logspace(0, 2, 30, dtype=torch.float64).unsqueeze(1)
    whole = coordinate_quantiles(x)
    torch.testing.assert_close(whole, coordinate_quantiles(x / x.norm(dim=1, keepdim=True), normalize=False))
    monkeypatch.setattr(coordinates, "COORDINATE_NUMBERS", 70)
    torch.testing.assert_close(coordinate_quantiles(x), whole, rtol=0, atol=0)


def test_a_coordinate_that_does_not_vary_counts_as_zeros():
    x = torch.full((9, 2), 0.1, dtype=torch.float64)
    assert coordinate_quantiles(x, points=3).observed.tolist() == [0, 0, 0]


def test_refuses_what_it_is_not_defined_for():
    for measure in (norm_quantiles, coordinate_quantiles):
        with pytest.raises(ValueError, match="`points` must be at least 1, but got 0"):
            measure(random_rows(5, 2), points=0)
        with pytest.raises(ValueError, match="must have at least 2 rows"):
            measure(random_rows(1, 2))
        with pytest.raises(ValueError, match="row 1 is the first of 1"):
            measure(torch.tensor([[1.0, 2.0], [math.nan, 0.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match="nothing but rows of zeros"):
        norm_quantiles(torch.zeros(3, 2))
