"""Parts that add up, against numpy and closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import alignment, cloud_distance, modality_gap, pair_distance, subspace_overlap
from tests.functional.rows import random_rows, unit_rows


@pytest.mark.parametrize("normalize", [True, False])
def test_the_parts_of_a_pairs_distance_add_up(normalize: bool):
    x, y = random_rows(30, 5) + 1, random_rows(30, 5, seed=1) - 0.5
    parts = pair_distance(x, y, normalize=normalize)
    assert float(parts.total) == pytest.approx(
        float(parts.centers + parts.spread_x + parts.spread_y - parts.shared), abs=1e-12
    )
    assert float(parts.total) == pytest.approx(float(alignment(x, y, normalize=normalize)), abs=1e-12)
    assert float(parts.centers) == pytest.approx(float(modality_gap(x, y, normalize=normalize).gap) ** 2, abs=1e-12)


def test_the_spread_of_unit_rows_is_what_their_center_lacks():
    x, y = unit_rows(30, 5), unit_rows(30, 5, seed=1)
    parts = pair_distance(x, y)
    assert float(parts.spread_x) == pytest.approx(1 - float(x.mean(dim=0).square().sum()), abs=1e-12)
    cross = np.cov(x.numpy(), y.numpy(), rowvar=False, ddof=0)[:5, 5:]
    assert float(parts.shared) == pytest.approx(2 * np.trace(cross), abs=1e-12)


def numpy_frechet(x: Tensor, y: Tensor) -> float:
    """From the eigenvalues of the product of covariances, which is not how ours is computed."""
    covariances = [np.cov(z.numpy(), rowvar=False) for z in (x, y)]
    roots = np.sqrt(np.clip(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0, None))
    shift = np.sum((x.numpy().mean(0) - y.numpy().mean(0)) ** 2)
    return float(shift + sum(map(np.trace, covariances)) - 2 * roots.sum())


@pytest.mark.parametrize(("n", "m"), [(60, 60), (50, 20)])
def test_the_parts_of_a_clouds_distance_add_up_to_that_of_frechet(n: int, m: int):
    x, y = random_rows(n, 4) * torch.tensor([1.0, 2, 3, 4]), random_rows(m, 4, seed=1) + 0.3
    parts = cloud_distance(x, y, normalize=False)
    assert float(parts.total) == pytest.approx(numpy_frechet(x, y), abs=1e-9)
    assert float(sum(parts[1:])) == pytest.approx(float(parts.total), abs=1e-12)
    assert all(float(part) >= 0 for part in parts)


def axes(*scales: float) -> Tensor:
    """Points on the axes whose covariance is diagonal, with variances in proportion to the squares of the scales."""
    diagonal = torch.diag(torch.tensor(scales, dtype=torch.float64))
    return torch.cat([diagonal, -diagonal])


@pytest.mark.parametrize(
    ("x", "y", "part"),
    [
        (axes(1, 1, 1), axes(1, 1, 1) + 2, "centers"),
        (axes(1, 2, 3), axes(2, 4, 6), "spread"),
        (axes(1, 1, 1), axes(1, 2**0.5, 0), "spectrum"),
        (axes(3, 1, 1), axes(1, 3, 1), "orientation"),
    ],
    ids=["centers", "spread", "spectrum", "orientation"],
)
def test_each_part_sees_one_difference(x: Tensor, y: Tensor, part: str):
    parts = cloud_distance(x, y, normalize=False)
    assert float(getattr(parts, part)) > 0.01
    assert float(parts.total - getattr(parts, part)) == pytest.approx(0, abs=1e-9)


def test_a_cloud_has_no_distance_to_itself():
    x = unit_rows(20, 30)
    assert float(cloud_distance(x, x).total) == pytest.approx(0, abs=1e-6)


def test_subspaces_that_coincide_are_orthogonal_or_random():
    x = axes(3, 2, 0.1, 0.1)
    assert float(subspace_overlap(x, axes(2, 3, 0.1, 0.1), 2, normalize=False)) == pytest.approx(1)
    assert float(subspace_overlap(x, axes(0.1, 0.1, 3, 2), 2, normalize=False)) == pytest.approx(0, abs=1e-12)
    # Chance is k / d; over seeds the deviation is about 0.01 at this size.
    assert float(subspace_overlap(unit_rows(400, 60), unit_rows(400, 60, seed=1), 20)) == pytest.approx(
        1 / 3, abs=0.04
    )


@pytest.mark.parametrize("k", [0, 4])
def test_there_are_as_many_directions_as_columns(k: int):
    with pytest.raises(ValueError, match=f"^`k` must be from 1 to the width 3, but got {k}"):
        subspace_overlap(unit_rows(5, 3), unit_rows(5, 3), k)
