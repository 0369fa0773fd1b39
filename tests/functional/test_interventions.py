"""Maps of clouds, against what they promise and against numpy."""

import math

import numpy as np
import pytest
import torch

from hf_contrastive.functional import mean_shift, modality_gap, shift_along_gap, whitening
from tests.functional.rows import random_rows, unit_rows


def test_a_mean_shift_subtracts_the_center_of_the_rows_that_it_was_fitted_on():
    fitted, x = unit_rows(30, 4) + 1, random_rows(7, 4, seed=1)
    center = np.mean([row / np.linalg.norm(row) for row in fitted.numpy()], axis=0)
    expected = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) - center
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mean_shift(fitted).apply(x).numpy(), expected, atol=1e-12)


def test_whitened_rows_have_the_identity_as_covariance_before_they_are_scaled():
    x = unit_rows(200, 5) * torch.arange(1.0, 6, dtype=torch.float64)
    map_ = whitening(x, shrinkage=0.0)
    rows = (torch.nn.functional.normalize(x, dim=1) - map_.center) @ map_.matrix
    np.testing.assert_allclose(np.cov(rows.numpy(), rowvar=False), np.eye(5), atol=1e-10)
    np.testing.assert_allclose(rows.mean(dim=0).numpy(), 0, atol=1e-12)


def test_the_root_is_the_symmetric_one():
    x = unit_rows(50, 4)
    matrix = whitening(x, shrinkage=0.3).matrix
    covariance = np.cov(x.numpy(), rowvar=False)
    target = 0.7 * covariance + 0.3 * np.trace(covariance) / 4 * np.eye(4)
    torch.testing.assert_close(matrix, matrix.T)
    np.testing.assert_allclose(np.linalg.inv(matrix.numpy() @ matrix.numpy()), target, atol=1e-10)


def test_full_shrinkage_is_the_mean_shift():
    fitted, x = unit_rows(20, 3), random_rows(5, 3, seed=1)
    torch.testing.assert_close(whitening(fitted, shrinkage=1.0).apply(x), mean_shift(fitted).apply(x))


def test_single_precision_whitens_as_double_does():
    x = unit_rows(300, 8)
    actual, expected = whitening(x.float()).matrix, whitening(x).matrix
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [3, 2])
def test_fewer_rows_than_columns_need_shrinkage(rows: int):
    with pytest.raises(ValueError, match=rf"covariance of {rows} rows of width 6 is singular.*`shrinkage` of 0"):
        whitening(unit_rows(rows, 6), shrinkage=0.0)
    assert whitening(unit_rows(rows, 6)).matrix.isfinite().all()


def test_a_collapsed_cloud_cannot_be_whitened():
    with pytest.raises(ValueError, match="is singular"):
        whitening(torch.ones(5, 3))


@pytest.mark.parametrize("shrinkage", [-0.1, 1.5, math.nan])
def test_shrinkage_is_a_share(shrinkage: float):
    with pytest.raises(ValueError, match=r"^`shrinkage` is a share"):
        whitening(unit_rows(9, 3), shrinkage=shrinkage)


def test_clouds_stay_meet_and_change_places_along_the_gap():
    x, y = unit_rows(40, 4) + 1.0, unit_rows(30, 4, seed=1) - 1.0
    unit = [torch.nn.functional.normalize(z, dim=1) for z in (x, y)]
    centers = [z.mean(dim=0) for z in unit]
    for fraction, expected in ((0.0, centers), (0.5, [sum(centers) / 2] * 2), (1.0, centers[::-1])):
        maps = shift_along_gap(x, y, fraction)
        for map_, z, center in zip(maps, unit, expected, strict=True):
            torch.testing.assert_close((z - map_.center).mean(dim=0), center)


def test_a_negative_fraction_parts_the_clouds():
    x, y = unit_rows(40, 4) + 1.0, unit_rows(40, 4, seed=1)
    gaps = []
    for fraction in (-0.5, 0.0, 0.25):
        first, second = shift_along_gap(x, y, fraction)
        gaps.append(float(modality_gap(first.apply(x), second.apply(y)).gap))
    assert gaps == sorted(gaps, reverse=True)


def test_a_row_at_the_center_has_no_direction():
    with pytest.raises(ValueError, match="row 0 is the first of 1"):
        mean_shift(torch.ones(3, 2)).apply(torch.ones(1, 2))


def test_autocast_does_not_round_a_map():
    x = unit_rows(30, 5).float()
    white = whitening(x)
    expected = white.apply(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert white.apply(x).equal(expected)
