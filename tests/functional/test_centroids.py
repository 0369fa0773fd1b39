import inspect
import math

import pytest
import torch
from scipy.stats import f_oneway
from torch import Tensor

from hf_contrastive.functional import centroid_gap, modality_gap
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


def shifted(n: int, d: int, seed: int, shift: float) -> Tensor:
    return random_rows(n, d, seed) + shift * torch.eye(d, dtype=torch.float64)[0]


def test_the_squared_gap_is_that_of_all_pairs_of_distinct_rows(tile: int):
    x, y = unit_rows(7, 4), unit_rows(9, 4, seed=1)
    own = [sum(float(z[i] @ z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) for z in (x, y)]
    cross = float((x @ y.T).mean())
    assert centroid_gap(2 * x, y).squared.item() == pytest.approx(own[0] / 42 + own[1] / 72 - 2 * cross, abs=1e-12)


def test_the_correction_of_unit_rows_is_the_short_one():
    x, y = unit_rows(7, 4), unit_rows(9, 4, seed=1)
    plain = (x.mean(0) - y.mean(0)).square().sum()
    corrections = [(1 - z.mean(0).square().sum()) / (len(z) - 1) for z in (x, y)]
    assert centroid_gap(x, y).squared.item() == pytest.approx((plain - sum(corrections)).item(), abs=1e-12)


def test_over_samples_the_squared_gap_is_unbiased_and_scatters_as_said():
    results = [centroid_gap(unit_rows(50, 8, seed), unit_rows(80, 8, seed + 500)) for seed in range(150)]
    squared, said = (torch.stack([getattr(r, name) for r in results]) for name in ("squared", "null_std"))
    assert abs(squared.mean().item()) < 3 * squared.std().item() / 150**0.5
    assert squared.std().item() == pytest.approx(said.mean().item(), rel=0.2)
    shift = [
        centroid_gap(random_rows(50, 8, seed), shifted(80, 8, seed + 500, 0.5), normalize=False).squared
        for seed in range(150)
    ]
    assert torch.stack(shift).mean().item() == pytest.approx(0.25, abs=0.03)


def test_the_null_deviation_is_that_over_deals_of_all_rows():
    x, y = shifted(12, 3, 0, 0.5), random_rows(9, 3, seed=1)
    pool, generator = torch.cat([x, y]), torch.Generator().manual_seed(0)
    squared, shares = [], []
    for _ in range(1500):
        dealt = pool[torch.randperm(21, generator=generator)]
        gap = centroid_gap(dealt[:12], dealt[12:], normalize=False)
        squared.append(gap.squared)
        shares.append(gap.share)
    actual = centroid_gap(x, y, normalize=False)
    assert actual.null_std.item() == pytest.approx(torch.stack(squared).std().item(), rel=0.1)
    assert actual.share_floor == pytest.approx(torch.stack(shares).mean().item(), rel=0.1)


def test_the_share_of_variance_is_that_of_an_analysis_of_variance():
    x, y = shifted(12, 1, 0, 1.5), random_rows(9, 1, seed=1)
    # eta^2 = F / (F + N - 2) for two groups.
    f = float(f_oneway(x[:, 0].numpy(), y[:, 0].numpy()).statistic)
    assert centroid_gap(x, y, normalize=False).share.item() == pytest.approx(f / (f + 19), abs=1e-12)


def test_two_points_lie_wholly_apart():
    x = torch.eye(3)[:1].expand(4, 3)
    y = torch.eye(3)[1:2].expand(6, 3)
    gap = centroid_gap(x, y)
    assert gap.squared.item() == pytest.approx(2)
    assert gap.share.item() == pytest.approx(1)
    assert [gap.norm_x.item(), gap.norm_y.item(), gap.cosine.item()] == pytest.approx([1, 1, 0])
    assert [gap.norm_floor_x.item(), gap.norm_floor_y.item()] == pytest.approx([0, 0])
    assert gap.direction.tolist() == pytest.approx([math.sqrt(0.5), -math.sqrt(0.5), 0])
    assert centroid_gap(x, x).share.item() == 0
    assert centroid_gap(x, x).direction.tolist() == [0, 0, 0]


def test_centers_and_their_floors_are_those_of_numpy():
    x, y = unit_rows(50, 4) + 0.2, unit_rows(30, 4, seed=1)
    gap = centroid_gap(x, y)
    unit = [z / z.norm(dim=1, keepdim=True) for z in (x, y)]
    means = [z.mean(0) for z in unit]
    assert [gap.norm_x.item(), gap.norm_y.item()] == pytest.approx([m.norm().item() for m in means], abs=1e-12)
    assert gap.cosine.item() == pytest.approx(torch.cosine_similarity(*means, dim=0).item(), abs=1e-12)
    assert math.hypot(gap.norm_floor_x, gap.norm_floor_y) == pytest.approx(modality_gap(x, y).floor.item(), abs=1e-12)
    assert gap.norm_floor_y.item() == pytest.approx(1 / math.sqrt(30), rel=0.02)


def test_order_rotation_and_side_do_not_matter():
    x, y, rotation = random_rows(9, 4), random_rows(6, 4, seed=1), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    expected = centroid_gap(x, y)
    for other in (centroid_gap(x.flip(0), y.roll(2, 0)), centroid_gap(x @ rotation, y @ rotation)):
        assert [float(v) for v in other[:9]] == pytest.approx([float(v) for v in expected[:9]], abs=1e-12)
    torch.testing.assert_close(centroid_gap(x @ rotation, y @ rotation).direction, expected.direction @ rotation)
    assert centroid_gap(y, x).squared.item() == pytest.approx(expected.squared.item(), abs=1e-12)
    torch.testing.assert_close(centroid_gap(y, x).direction, -expected.direction)


def test_memory_is_that_of_rows(small_tiles: int):
    x, y = unit_rows(400, 16).float(), unit_rows(300, 16, seed=1).float()
    with LargestTensor() as memory:
        centroid_gap(x, y)
    assert memory.largest <= 400 * 16


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match="`y` must have at least 2 rows"):
        centroid_gap(unit_rows(4, 3), unit_rows(1, 3))
    with pytest.raises(ValueError, match="same width"):
        # As users run it: without the shapes that tests check.
        inspect.unwrap(centroid_gap)(unit_rows(4, 3), unit_rows(4, 2))
