import math
import re
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from hf_contrastive.functional import (
    anderson_darling,
    coordinates,
    dagostino_pearson,
    expected_gaussianity,
    gaussianity,
    norm_variation,
)
from hf_contrastive.functional.gaussian import expected_epps_pulley
from hf_contrastive.functional.gaussianity import ANDERSON_DARLING_MEAN
from tests.functional.rows import random_rows, unit_rows


def various(n: int, seed: int = 0) -> Tensor:
    """Coordinates that are Gaussian, skewed, heavy, flat, of two clusters, and Gaussian far from zero."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.standard_normal(n),
        rng.exponential(size=n),
        rng.standard_t(3, n),
        rng.uniform(size=n),
        rng.choice([-2.0, 2.0], n) + 0.3 * rng.standard_normal(n),
        1000 + 0.1 * rng.standard_normal(n),
    ]
    return torch.from_numpy(np.stack(columns, axis=1))


def scipy_anderson_darling(column: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about the p-value, which is not taken
        return float(stats.anderson(column).statistic)


@pytest.mark.parametrize("n", [8, 50, 1001])
def test_anderson_darling_is_scipys(n: int):
    x = various(n)
    expected = [scipy_anderson_darling(column) for column in x.T.numpy()]
    np.testing.assert_allclose(anderson_darling(x).numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("n", [20, 50, 1001])
def test_dagostino_pearson_is_scipys(n: int):
    x = various(n)
    np.testing.assert_allclose(
        dagostino_pearson(x).numpy(), stats.normaltest(x.numpy()).pvalue, rtol=1e-8, atol=1e-300
    )


def test_far_outliers_do_not_overflow():
    x = random_rows(200, 1)
    x[0] = 1e6
    assert anderson_darling(x).item() == pytest.approx(scipy_anderson_darling(x[:, 0].numpy()), rel=1e-8)
    assert dagostino_pearson(x).item() < 1e-80


@pytest.mark.parametrize("measure", [anderson_darling, dagostino_pearson])
def test_shift_and_scale_of_coordinates_do_not_matter_and_blocks_join(measure, monkeypatch: pytest.MonkeyPatch):
    x = various(40)
    whole = measure(x)
    torch.testing.assert_close(measure(3 * x - 7), whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(measure(x.flip(0)), whole, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(coordinates, "COORDINATE_NUMBERS", 80)
    torch.testing.assert_close(measure(x), whole, rtol=0, atol=0)


def test_a_coordinate_that_does_not_vary_is_as_far_from_gaussian_as_can_be():
    x = random_rows(30, 2)
    x[:, 1] = 0.1
    assert anderson_darling(x)[1].item() == math.inf
    assert dagostino_pearson(x)[1].item() == 0
    values = gaussianity(x, normalize=False)
    assert values.anderson_darling.item() == math.inf
    assert max(values.anderson_darling_share.item(), values.dagostino_pearson_share.item()) <= 0.5


def test_the_mean_of_the_statistic_is_the_integral_of_its_asymptotic_form():
    z = np.linspace(-12, 12, 200_001)
    tails = np.exp(stats.norm.logcdf(z) + stats.norm.logsf(z))
    integral = np.trapezoid(stats.norm.pdf(z) ** 3 * (1 + z**2 / 2) / tails, z)
    assert pytest.approx(1 - integral, abs=1e-4) == ANDERSON_DARLING_MEAN


@pytest.mark.parametrize("n", [200, 1000])
def test_gaussian_clouds_show_what_is_expected(n: int):
    """Within four standard errors of 600 coordinates: deviations are 0.19 of the statistic, 0.29 of the p-value."""
    values, expected = gaussianity(random_rows(n, 600), num_rows=n, normalize=False), expected_gaussianity(n)
    root = math.sqrt(600)
    assert values.anderson_darling.item() == pytest.approx(expected.anderson_darling.item(), abs=4 * 0.19 / root)
    assert values.dagostino_pearson.item() == pytest.approx(expected.dagostino_pearson.item(), abs=4 * 0.29 / root)
    for name in ("anderson_darling_share", "dagostino_pearson_share"):
        error = 4 * math.sqrt(0.95 * 0.05) / root
        assert getattr(values, name).item() == pytest.approx(getattr(expected, name).item(), abs=error)
    assert values.num_rows == expected.num_rows == n


@pytest.mark.parametrize("normalize", [True, False])
def test_projections_of_gaussian_clouds_have_the_expected_statistic(normalize: bool):
    samples = [
        gaussianity(random_rows(200, 64, seed), slices=64, normalize=normalize).epps_pulley.item()
        for seed in range(20)
    ]
    error = np.std(samples) / math.sqrt(20)
    # Scaling by the sample, and the sphere, take about one in 64 degrees of freedom.
    assert np.mean(samples) == pytest.approx(expected_gaussianity(200).epps_pulley.item(), abs=4 * error + 0.03)
    assert error < 0.05


def test_the_expected_statistic_of_projections_is_the_integral():
    assert expected_epps_pulley() == pytest.approx(math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3)), rel=1e-3)


def test_the_sphere_of_width_32_fails_at_5000_rows_and_that_of_256_passes():
    """The figures of papers.md section 2.6; deviations of a mean over 32 coordinates are 0.05 and 8 %."""
    low, high = (gaussianity(unit_rows(5000, d), num_rows=5000) for d in (32, 256))
    assert low.anderson_darling.item() == pytest.approx(0.705, abs=0.2)
    assert low.anderson_darling_share.item() == pytest.approx(0.66, abs=0.25)
    assert low.dagostino_pearson_share.item() == pytest.approx(0.22, abs=0.25)
    assert high.anderson_darling_share.item() > 0.88
    # Fewer rows do not tell the difference: the number of rows is part of the result.
    few = gaussianity(unit_rows(5000, 32), num_rows=500)
    assert few.anderson_darling_share.item() > 0.85
    assert few.num_rows == 500


def test_clusters_hide_from_coordinates_but_a_shift_shows_in_projections():
    x = random_rows(500, 16)
    shifted = gaussianity(x + 1, normalize=False)
    plain = gaussianity(x, normalize=False)
    torch.testing.assert_close(shifted.anderson_darling, plain.anderson_darling)
    assert shifted.epps_pulley.item() > 10 * plain.epps_pulley.item()


def test_one_seed_gives_one_value_and_leaves_the_global_generator_alone():
    x, state = random_rows(300, 8), torch.get_rng_state()
    values = [gaussianity(x, num_rows=100, seed=seed) for seed in (3, 3, 4)]
    assert values[0] == values[1]
    assert values[0].anderson_darling != values[2].anderson_darling
    assert torch.get_rng_state().equal(state)


def test_fewer_rows_than_asked_for_are_all_taken():
    x = various(50)
    values = gaussianity(x, normalize=False)
    assert values.num_rows == 50
    assert values.anderson_darling.item() == pytest.approx(anderson_darling(x).mean().item(), rel=1e-12)


def test_rows_are_scaled_by_default():
    x = random_rows(100, 4) * torch.logspace(0, 2, 100, dtype=torch.float64).unsqueeze(1)
    assert gaussianity(x) == gaussianity(x / x.norm(dim=1, keepdim=True), normalize=False)
    assert gaussianity(x).anderson_darling < gaussianity(x, normalize=False).anderson_darling


# ---- Lengths ----


def test_the_variation_of_lengths_is_that_of_numpy():
    x = random_rows(40, 5)
    lengths = np.linalg.norm(x.numpy(), axis=1)
    assert norm_variation(x).variation.item() == pytest.approx(lengths.std() / lengths.mean(), rel=1e-12)
    assert norm_variation(unit_rows(9, 3)).variation.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("d", [1, 2, 16, 256, 4096])
def test_the_reference_is_that_of_the_chi_distribution_and_near_the_papers(d: int):
    reference = norm_variation(random_rows(3, d)).gaussian.item()
    assert reference == pytest.approx(stats.chi.std(d) / stats.chi.mean(d), rel=1e-6)
    if d > 10:
        assert reference == pytest.approx(1 / math.sqrt(2 * d), rel=0.01)


def test_gaussian_clouds_are_thin_shells():
    variation, gaussian = norm_variation(random_rows(4000, 64))
    # The relative error of a deviation of n values is the root of 1 / (2n).
    assert variation.item() == pytest.approx(gaussian.item(), rel=4 / math.sqrt(8000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussianity(random_rows(30, 3), num_rows=19), "`num_rows` must be at least 20, but got 19."),
        (lambda: gaussianity(random_rows(30, 3), slices=0), "`slices` must be at least 1, but got 0."),
        (lambda: gaussianity(random_rows(19, 3)), "`x` must have at least 20 rows, but got shape [19, 3]."),
        (lambda: gaussianity(torch.zeros(30, 3), normalize=False), "`x` holds nothing but rows of zeros"),
        (lambda: norm_variation(torch.zeros(3, 3)), "`x` holds nothing but rows of zeros"),
        (lambda: anderson_darling(random_rows(7, 3)), "`x` must have at least 8 rows"),
        (lambda: dagostino_pearson(torch.full((30, 3), math.nan)), "row 0 is the first of 30"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
