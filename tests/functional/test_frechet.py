import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from hf_contrastive.functional import cloud_distance, frechet_distance
from tests.functional.rows import random_rows, unit_rows


def test_the_distance_is_fid_with_the_matrix_root_of_scipy(tile: int):
    x, y = random_rows(30, 4), random_rows(25, 4, seed=1) * torch.tensor([2.0, 1, 1, 0.1]) + 0.5
    covariances = [np.cov(z.numpy(), rowvar=False) for z in (x, y)]
    expected = float((x.mean(0) - y.mean(0)).square().sum())
    expected += np.trace(sum(covariances)) - 2 * np.trace(sqrtm(covariances[0] @ covariances[1]).real)
    actual = frechet_distance(x, y, normalize=False)
    assert actual.squared.item() == pytest.approx(expected, abs=1e-10)
    assert actual.squared.item() == pytest.approx(
        (actual.between_means + actual.between_covariances).item(), abs=1e-12
    )


def test_on_the_line_it_is_the_distance_of_means_and_of_deviations():
    x, y = random_rows(30, 1), 3 * random_rows(20, 1, seed=1) + 1
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert frechet_distance(x, y, normalize=False).squared.item() == pytest.approx(expected.item(), abs=1e-12)


def test_fewer_rows_than_columns_are_no_obstacle():
    # A shift alone: covariances are equal and of rank 4, and the root of their product is they themselves.
    x = random_rows(5, 20)
    actual = frechet_distance(x, x + 1, normalize=False)
    assert actual.between_means.item() == pytest.approx(20, abs=1e-10)
    assert actual.between_covariances.item() == pytest.approx(0, abs=1e-7)


def test_singular_covariances_in_different_planes_do_not_overlap():
    x = torch.zeros(9, 4, dtype=torch.float64)
    y = torch.zeros(8, 4, dtype=torch.float64)
    x[:, :2], y[:, 2:] = random_rows(9, 2), random_rows(8, 2, seed=1)
    expected = sum(np.trace(np.cov(z.numpy(), rowvar=False)) for z in (x, y))
    assert frechet_distance(x, y, normalize=False).between_covariances.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("sizes", [(40, 60), (200, 200)])
def test_the_floor_is_the_value_of_two_samples_of_one_distribution(sizes: tuple[int, int]):
    results = [
        frechet_distance(unit_rows(sizes[0], 16, seed), unit_rows(sizes[1], 16, seed + 999)) for seed in range(100)
    ]
    squared, floor = (torch.stack([getattr(r, name) for r in results]) for name in ("squared", "floor"))
    # Both scatter by an eighth; a deal of rows that were centered has a fiftieth less.
    assert squared.mean().item() == pytest.approx(floor.mean().item(), rel=0.08)
    # Means alone: 1/n + 1/m of the variance, which is one.
    assert floor.mean().item() > 1 / sizes[0] + 1 / sizes[1]


def test_a_shift_does_not_raise_the_floor():
    x, y = random_rows(50, 4), random_rows(50, 4, seed=1)
    near, far = (frechet_distance(x - shift, y + shift, normalize=False) for shift in (0, 100))
    assert far.squared.item() == pytest.approx(160000, rel=0.01)
    assert far.floor.item() == pytest.approx(near.floor.item(), abs=1e-9)


def test_order_rotation_and_side_do_not_matter():
    x, y, rotation = random_rows(9, 4), random_rows(12, 4, seed=1), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    expected = frechet_distance(x, y).squared.item()
    for other in (
        frechet_distance(y, x),
        frechet_distance(x.flip(0), y.roll(2, 0)),
        frechet_distance(x @ rotation, y @ rotation),
    ):
        assert other.squared.item() == pytest.approx(expected, abs=1e-10)


def test_opposite_points_are_as_far_apart_as_unit_rows_can_be():
    x = torch.eye(3)[:1].expand(4, 3)
    assert frechet_distance(x, -x).squared.item() == pytest.approx(4)
    assert frechet_distance(x, x).squared.item() == 0
    assert math.isfinite(frechet_distance(x, -x).floor)


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="`y` must have at least 2 rows"):
        frechet_distance(unit_rows(4, 3), unit_rows(1, 3))


def test_it_is_the_distance_that_cloud_distance_splits():
    x, y = random_rows(30, 4), random_rows(25, 4, seed=1) * 2 + 0.5
    whole, parts = frechet_distance(x, y), cloud_distance(x, y)
    assert whole.squared.item() == parts.total.item()
    assert whole.between_means.item() == parts.centers.item()
