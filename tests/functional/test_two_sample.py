import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor

from hf_contrastive.functional import energy_distance, maximum_mean_discrepancy, median_bandwidth
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


METRICS = {"energy": energy_distance, "MMD": maximum_mean_discrepancy}
of_both = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


def lower_median(values: np.ndarray) -> float:
    return np.sort(values, axis=None)[(values.size - 1) // 2]


def both_forms(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> tuple[float, float]:
    """U- and V-statistic of a kernel."""
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return sum(own) - 2 * xy.mean(), xx.mean() + yy.mean() - 2 * xy.mean()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sizes", [(7, 7), (9, 5)])
def test_energy_distance_is_that_of_the_distances_of_scipy(sizes: tuple[int, int], normalize: bool, tile: int):
    x, y = random_rows(sizes[0], 4), random_rows(sizes[1], 4, seed=1) + 1
    rows = [z / z.norm(dim=1, keepdim=True) if normalize else z for z in (x, y)]
    expected = both_forms(*(-cdist(a, b) for a, b in ((rows[0], rows[0]), (rows[1], rows[1]), rows)))
    actual = energy_distance(x, y, normalize=normalize)
    assert [actual.unbiased.item(), actual.biased.item()] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sizes", [(7, 7), (9, 5)])
@pytest.mark.parametrize("bandwidth", [0.3, 1.0, None])
def test_discrepancy_is_that_of_the_kernels_of_scikit_learn(
    sizes: tuple[int, int], bandwidth: float | None, tile: int
):
    x, y = unit_rows(sizes[0], 4), unit_rows(sizes[1], 4, seed=1)
    gamma = 1 / (2 * (bandwidth or np.median(cdist(x, y))) ** 2)
    expected = both_forms(*(rbf_kernel(a, b, gamma=gamma) for a, b in ((x, x), (y, y), (x, y))))
    actual = maximum_mean_discrepancy(3 * x, y, bandwidth=bandwidth)
    assert [actual.unbiased.item(), actual.biased.item()] == pytest.approx(expected, abs=1e-12)


@of_both
def test_the_floor_is_the_mean_of_the_biased_value_over_deals_of_all_rows(metric: Callable):
    x, y = unit_rows(6, 3), unit_rows(9, 3, seed=1)
    options = {"bandwidth": 1.0} if metric is maximum_mean_discrepancy else {}
    pool, generator = torch.cat([x, y]), torch.Generator().manual_seed(0)
    values = []
    for _ in range(300):
        dealt = pool[torch.randperm(15, generator=generator)]
        values.append(metric(dealt[:6], dealt[6:], **options).biased)
    values = torch.stack(values)
    # Four standard errors of the mean.
    assert metric(x, y, **options).floor.item() == pytest.approx(
        values.mean().item(), abs=4 * values.std().item() / 300**0.5
    )
    assert metric(x, y, **options).null_std.item() == pytest.approx(values.std().item(), rel=0.2)


@of_both
def test_over_samples_of_one_distribution_the_unbiased_value_is_zero_and_scatters_as_said(metric: Callable):
    results = [metric(unit_rows(60, 8, seed), unit_rows(40, 8, seed + 500)) for seed in range(60)]
    values, said = (torch.stack([getattr(r, name) for r in results]) for name in ("unbiased", "null_std"))
    assert abs(values.mean().item()) < 3 * values.std().item() / 60**0.5
    assert values.std().item() == pytest.approx(said.mean().item(), rel=0.35)
    biased, floor = (torch.stack([getattr(r, name) for r in results]) for name in ("biased", "floor"))
    assert biased.mean().item() == pytest.approx(floor.mean().item(), rel=0.05)


def test_the_energy_distance_of_two_gaussians_on_the_line_has_a_closed_form():
    # E|N(0, 2 s^2)| = 2 s / sqrt(pi); E|N(m, 2)| is the mean of a folded normal.
    shift = 1.5
    folded = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    expected = 2 * folded - 4 / math.sqrt(math.pi)
    x, y = random_rows(2000, 1), random_rows(2000, 1, seed=1) + shift
    # The standard deviation over seeds is 0.045 at this size.
    assert energy_distance(x, y, normalize=False).unbiased.item() == pytest.approx(expected, abs=0.14)


def test_the_discrepancy_of_two_gaussians_has_a_closed_form():
    d, shift, sigma = 3, 1.0, 1.2
    ratio = (sigma**2 / (sigma**2 + 2)) ** (d / 2)
    expected = 2 * ratio * (1 - math.exp(-(shift**2) / (2 * (sigma**2 + 2))))
    x, y = random_rows(2000, d), random_rows(2000, d, seed=1)
    y[:, 0] += shift
    actual = maximum_mean_discrepancy(x, y, bandwidth=sigma, normalize=False)
    # The standard deviation over seeds is 0.003 at this size.
    assert actual.unbiased.item() == pytest.approx(expected, abs=0.01)


@of_both
def test_order_rotation_and_side_do_not_matter(metric: Callable):
    x, y, rotation = random_rows(9, 4), random_rows(6, 4, seed=1), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    expected = torch.stack(metric(x, y))
    for other in (metric(y, x), metric(x.flip(0), y.roll(2, 0)), metric(x @ rotation, y @ rotation)):
        torch.testing.assert_close(torch.stack(other), expected, rtol=0, atol=1e-12)


@of_both
def test_a_cloud_and_itself_have_no_biased_distance(metric: Callable):
    x = unit_rows(9, 4).float()
    assert metric(x, x).biased.item() == pytest.approx(0, abs=1e-7)
    assert metric(x, x).unbiased.item() < 0


@of_both
def test_single_precision_rows_far_from_the_origin_lose_nothing(metric: Callable):
    x, y = (100 + random_rows(20, 3, seed).float() for seed in (0, 1))
    options = {"normalize": False} | ({"bandwidth": 1.0} if metric is maximum_mean_discrepancy else {})
    expected = metric(x.double() - 100, y.double() - 100, **options)
    torch.testing.assert_close(torch.stack(metric(x, y, **options)), torch.stack(expected), rtol=1e-10, atol=1e-11)


@of_both
def test_memory_is_that_of_rows_and_tiles(metric: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 256)
    x, y = unit_rows(2048, 16).float(), unit_rows(1500, 16, seed=1).float()
    options = {"bandwidth": 1.0} if metric is maximum_mean_discrepancy else {}
    with LargestTensor() as memory:
        metric(x, y, **options)
    # A tile in double precision is twice as many single-precision numbers.
    assert memory.largest <= max(2 * 256**2, 2 * 3548 * 16)


def test_the_median_distance_of_many_rows_is_that_of_evenly_spaced_ones():
    x, y = unit_rows(50, 3), unit_rows(7, 3, seed=1)
    assert median_bandwidth(x, y, max_rows=10) == pytest.approx(lower_median(cdist(x[::5], y)), abs=1e-12)
    assert median_bandwidth(x, y) == pytest.approx(lower_median(cdist(x, y)), abs=1e-12)


@of_both
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (unit_rows(1, 3), unit_rows(4, 3), r"`x` must have at least 2 rows"),
        (unit_rows(4, 3), unit_rows(4, 2), r"`x` and `y` must have the same width"),
        (unit_rows(4, 3), unit_rows(4, 3) * torch.tensor([[1.0], [1], [0], [1]]), r"`y` holds rows of zeros.*row 2"),
        (unit_rows(4, 3).index_fill(0, torch.tensor([1]), torch.nan), unit_rows(4, 3), r"`x` holds rows .*row 1"),
    ],
)
def test_bad_rows_are_refused(metric, x: Tensor, y: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        # As users run it: without the shapes that tests check.
        inspect.unwrap(metric)(x, y)


def test_the_median_distance_leaves_out_rows_that_coincide():
    # Of sixteen pairs twelve coincide, and four are two apart.
    x, y = torch.tensor([[1.0, 0.0]]).repeat(4, 1), torch.tensor([[1.0, 0.0], [1, 0], [1, 0], [-1, 0]])
    assert median_bandwidth(x, y) == pytest.approx(2)


def test_clouds_that_coincide_have_no_discrepancy_at_any_bandwidth():
    x = torch.ones(5, 3)
    assert median_bandwidth(x, 2 * x) == 1
    assert [float(z) for z in maximum_mean_discrepancy(x, x)] == [0, 0, 0, 0]


def test_impossible_options_are_refused():
    x = unit_rows(5, 3)
    with pytest.raises(ValueError, match="`bandwidth` must be positive"):
        maximum_mean_discrepancy(x, x, bandwidth=0.0)
    with pytest.raises(ValueError, match="`max_rows` must be at least 1"):
        median_bandwidth(x, x, max_rows=0)
