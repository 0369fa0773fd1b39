import math

import pytest
import torch
from torch.autograd import gradcheck

from hf_contrastive.functional import centroid_cosine, centroid_gap, centroid_norm, mean_cosine
from tests.functional.rows import random_rows, unit_rows


@pytest.mark.parametrize(("n", "d"), [(2, 3), (30, 5), (7, 1)])
def test_the_mean_cosine_is_that_of_all_pairs(n: int, d: int):
    x = random_rows(n, d) + 0.3
    unit = x / x.norm(dim=1, keepdim=True)
    pairs = [float(unit[i] @ unit[j]) for i in range(n) for j in range(n) if i != j]
    assert mean_cosine(x).cosine.item() == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_single_precision_does_not_blur_a_small_mean_cosine():
    x = torch.cat([unit_rows(4000, 16), -unit_rows(4000, 16)])
    assert mean_cosine(x.float()).cosine.item() == pytest.approx(-1 / 7999, rel=1e-6)


def test_a_collapsed_cloud_has_cosine_one_and_opposite_rows_the_least_there_is():
    assert mean_cosine(torch.ones(9, 4)).cosine.item() == pytest.approx(1, abs=1e-6)
    simplex = torch.eye(4, dtype=torch.float64) - 1 / 4
    assert mean_cosine(simplex).cosine.item() == pytest.approx(-1 / 3, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(10, 3), (50, 16)])
def test_mean_cosines_of_evenly_spread_samples_deviate_as_the_reference_says(n: int, d: int):
    samples = [mean_cosine(unit_rows(n, d, seed=seed)) for seed in range(800)]
    values = torch.stack([sample.cosine for sample in samples])
    expected = samples[0].deviation.item()
    assert abs(values.mean().item()) < 4 * expected / math.sqrt(800)
    # The deviation of 800 values is known to about 4 %, a little less well as they are skewed.
    assert values.std().item() == pytest.approx(expected, rel=0.15)


def test_the_centroids_norm_is_that_of_the_mean_row():
    x = random_rows(20, 4) + 1
    expected = x.mean(0).norm().item()
    assert centroid_norm(x, normalize=False).norm.item() == pytest.approx(expected, abs=1e-12)
    unit = x / x.norm(dim=1, keepdim=True)
    assert centroid_norm(x).norm.item() == pytest.approx(unit.mean(0).norm().item(), abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(5, 2), (40, 8)])
def test_centroids_of_evenly_spread_samples_are_at_the_floor(n: int, d: int):
    samples = [centroid_norm(unit_rows(n, d, seed=seed)) for seed in range(600)]
    squares = torch.stack([sample.norm**2 for sample in samples])
    assert squares.mean().item() == pytest.approx(1 / n, rel=4 * squares.std().item() * n / math.sqrt(600))
    # The difference of squares has no bias: its mean is zero, within four standard errors.
    differences = torch.stack([sample.norm**2 - sample.floor**2 for sample in samples])
    assert abs(differences.mean().item()) < 4 * differences.std().item() / math.sqrt(600)


def test_mean_cosine_and_centroid_tell_the_same_story():
    x = unit_rows(30, 4) + 0.5
    norm, floor = centroid_norm(x)
    assert (norm**2 - floor**2).item() == pytest.approx(mean_cosine(x).cosine.item(), abs=1e-12)


def test_both_ignore_rotations_and_the_order_of_rows():
    x, rotation = random_rows(20, 4) + 1, torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    for measure in (mean_cosine, centroid_norm):
        for other in (x @ rotation, x.flip(0)):
            torch.testing.assert_close(measure(other), measure(x), rtol=0, atol=1e-12)


def test_both_are_differentiable_also_where_the_cloud_has_collapsed():
    x = random_rows(6, 3).requires_grad_()
    assert gradcheck(lambda x: mean_cosine(x).cosine, x)
    assert gradcheck(lambda x: tuple(centroid_norm(x)), x)
    same = torch.ones(4, 3, requires_grad=True)
    assert torch.autograd.grad(sum(centroid_norm(same)), same)[0].isfinite().all()


@pytest.mark.parametrize("measure", [mean_cosine, centroid_norm])
def test_one_row_or_a_row_of_zeros_is_refused(measure):
    with pytest.raises(ValueError, match=r"^`x` must have at least 2 rows, but got shape \[1, 3\]\.$"):
        measure(unit_rows(1, 3))
    with pytest.raises(ValueError, match="row 1 is the first of 1"):
        measure(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))


def test_the_cosine_of_centers_is_that_of_the_gap_between_them():
    x, y = random_rows(9, 4) + 1, random_rows(6, 4, seed=1)
    assert centroid_cosine(x, y).item() == pytest.approx(centroid_gap(x, y).cosine.item(), abs=1e-14)
    raw = torch.nn.functional.cosine_similarity(x.mean(0), y.mean(0), dim=0)
    assert centroid_cosine(x, y, normalize=False).item() == pytest.approx(raw.item(), abs=1e-14)
    assert centroid_cosine(torch.cat([torch.eye(4), -torch.eye(4)]), y.float()).isnan()
