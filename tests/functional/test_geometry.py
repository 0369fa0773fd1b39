import math
from collections.abc import Callable

import pytest
import torch
from scipy.special import hyp0f1
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import alignment, gram_determinant, modality_gap, uniformity, uniformity_floor
from tests.functional.rows import random_rows, unit_rows


# papers.md 4.1: the lowest uniformity in each width, to three digits.
FLOORS = {
    2.0: [-1.575, -2.080, -3.083, -3.513, -3.752, -3.875, -3.938, -3.969, -3.984, -3.990],
    3.0: [-1.792, -2.485, -4.098, -4.937, -5.446, -5.720, -5.860, -5.930, -5.965, -5.977],
}
WIDTHS = [2, 3, 8, 16, 32, 64, 128, 256, 512, 768]

SCALAR_METRICS = {
    "alignment": lambda x: alignment(x, x.flip(0)),
    "alignment, not squared": lambda x: alignment(x, x.flip(0).roll(1, 0), alpha=1),
    "uniformity": uniformity,
    "gap": lambda x: modality_gap(x, x[:3]).gap,
    "floor of the gap": lambda x: modality_gap(x, x[:3]).floor,
}
of_every_metric = pytest.mark.parametrize("metric", SCALAR_METRICS.values(), ids=SCALAR_METRICS.keys())


def distance(x: Tensor, y: Tensor) -> float:
    return math.dist(x.tolist(), y.tolist())


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 3.0])
def test_alignment_matches_a_loop_over_pairs(alpha: float):
    x, y = unit_rows(6, 4), unit_rows(6, 4, seed=1)
    expected = sum(distance(a, b) ** alpha for a, b in zip(x, y, strict=True)) / 6
    assert alignment(x, y, alpha=alpha).item() == pytest.approx(expected, abs=1e-12)


def test_squared_alignment_is_two_minus_twice_the_cosine():
    x, y = unit_rows(6, 4), unit_rows(6, 4, seed=1)
    assert alignment(x, y).item() == pytest.approx(2 - 2 * (x * y).sum(dim=1).mean().item(), abs=1e-12)
    assert alignment(x, -x).item() == pytest.approx(4, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0, 2.0])
def test_alignment_of_coinciding_pairs_is_zero_with_finite_gradient(alpha: float, dtype: torch.dtype):
    x = unit_rows(6, 4).to(dtype).requires_grad_()
    value = alignment(x, x.detach().clone(), alpha=alpha)
    assert value.item() == 0
    assert torch.autograd.grad(value, x)[0].isfinite().all()


@pytest.mark.parametrize("t", [0.5, 2.0, 5.0])
def test_uniformity_matches_a_loop_over_distinct_pairs(t: float, tile: int):
    x = unit_rows(6, 4)
    potentials = [math.exp(-t * distance(x[i], x[j]) ** 2) for i in range(6) for j in range(i)]
    expected = math.log(sum(potentials) / len(potentials))
    assert uniformity(x, t=t).item() == pytest.approx(expected, abs=1e-12)


def test_uniformity_of_raw_rows_matches_a_loop():
    x = random_rows(6, 4)
    potentials = [math.exp(-2 * distance(x[i], x[j]) ** 2) for i in range(6) for j in range(i)]
    expected = math.log(sum(potentials) / len(potentials))
    assert uniformity(x, normalize=False).item() == pytest.approx(expected, abs=1e-12)


def test_uniformity_of_far_rows_does_not_underflow():
    far_apart = torch.tensor([[0.0], [100.0], [200.0]], dtype=torch.float64)
    expected = -2 * 100**2 + math.log(2 / 3)
    assert uniformity(far_apart, normalize=False).item() == pytest.approx(expected, abs=1e-9)


def test_uniformity_of_a_collapsed_cloud_is_zero():
    assert uniformity(unit_rows(1, 8).expand(9, 8)).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("t", [2.0, 3.0])
def test_the_floor_of_uniformity_is_the_published_one(t: float):
    assert [uniformity_floor(d, t=t) for d in WIDTHS] == pytest.approx(FLOORS[t], abs=1e-3)


@pytest.mark.parametrize("d", [1, 2, 3, 64, 1024])
@pytest.mark.parametrize("t", [0.01, 1.0, 2.0, 10.0])
def test_the_floor_of_uniformity_matches_scipy(d: int, t: float):
    assert uniformity_floor(d, t=t) == pytest.approx(-2 * t + math.log(hyp0f1(d / 2, t * t)), abs=1e-10)


@pytest.mark.parametrize("t", [1e-3, 50.0, 1e4])
def test_the_floor_of_uniformity_on_the_line_has_a_closed_form(t: float):
    # Half of all pairs coincide, the others are antipodal: log((1 + exp(-4t)) / 2).
    assert uniformity_floor(1, t=t) == pytest.approx(math.log1p(math.exp(-4 * t)) - math.log(2), abs=1e-7)


@pytest.mark.parametrize("d", [2, 3, 16])
def test_uniform_rows_reach_the_floor_of_uniformity(d: int):
    # The estimate's standard deviation over seeds is below 0.003 at this size.
    assert uniformity(unit_rows(3000, d)).item() == pytest.approx(uniformity_floor(d), abs=0.012)


def test_concentrated_rows_stay_above_the_floor_of_uniformity():
    x = random_rows(500, 8) + torch.tensor([1.0, *[0.0] * 7])
    assert uniformity(x).item() > uniformity_floor(8) + 0.1


@pytest.mark.parametrize("d", [0, -3])
def test_a_width_below_one_has_no_floor(d: int):
    with pytest.raises(ValueError, match=rf"must be at least 1, but got {d}\.$"):
        uniformity_floor(d)


def test_the_gap_is_the_distance_that_a_translation_adds():
    x = random_rows(6, 4)
    shift = torch.tensor([3.0, 0.0, 4.0, 0.0])
    assert modality_gap(x, x + shift, normalize=False).gap.item() == pytest.approx(5, abs=1e-12)


def test_the_gap_and_its_floor_match_a_loop():
    x, y = unit_rows(6, 4), unit_rows(9, 4, seed=1)
    centers = [[sum(column) / len(z) for column in zip(*z.tolist(), strict=True)] for z in (x, y)]
    spreads = [
        sum(math.dist(row, center) ** 2 for row in z.tolist()) / (len(z) - 1) / len(z)
        for z, center in zip((x, y), centers, strict=True)
    ]
    gap, floor = modality_gap(x, y)
    assert gap.item() == pytest.approx(math.dist(*centers), abs=1e-12)
    assert floor.item() == pytest.approx(math.sqrt(sum(spreads)), abs=1e-12)


def test_the_gap_of_uniform_samples_is_about_its_floor():
    # The floor is a root mean square and the gap's relative deviation is about 1 / sqrt(2d), so wide rows and many seeds.
    n, m, seeds = 100, 150, 60
    results = [modality_gap(unit_rows(n, 32, seed), unit_rows(m, 32, seed + seeds)) for seed in range(seeds)]
    mean_gap, mean_floor = (torch.stack(values).mean().item() for values in zip(*results, strict=True))
    assert mean_gap == pytest.approx(mean_floor, rel=0.1)
    assert mean_floor == pytest.approx(math.sqrt(1 / n + 1 / m), rel=0.01)


@pytest.mark.parametrize("cosine", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_the_gram_determinant_of_two_rows_is_one_minus_the_squared_cosine(cosine: float):
    pair = torch.tensor([[1.0, 0.0, 0.0], [cosine, math.sqrt(1 - cosine**2), 0.0]], dtype=torch.float64)
    assert gram_determinant(pair.unsqueeze(0)).item() == pytest.approx(1 - cosine**2, abs=1e-12)


def test_the_gram_determinant_of_three_rows_has_a_closed_form():
    tuples = unit_rows(15, 4).view(5, 3, 4)
    for value, (x, y, z) in zip(gram_determinant(tuples), tuples, strict=True):
        a, b, c = float(x @ y), float(x @ z), float(y @ z)
        assert value.item() == pytest.approx(1 + 2 * a * b * c - a**2 - b**2 - c**2, abs=1e-12)


def test_the_gram_determinant_vanishes_for_dependent_rows():
    x, y = unit_rows(4, 5), unit_rows(4, 5, seed=1)
    tuples = torch.stack([x, y, torch.nn.functional.normalize(x + y, dim=1)], dim=1)
    torch.testing.assert_close(gram_determinant(tuples), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-14)
    assert gram_determinant(unit_rows(6, 2).view(2, 3, 2)).tolist() == pytest.approx([0, 0], abs=1e-14)


def test_the_gram_determinant_is_differentiable_where_it_vanishes_too():
    coinciding = unit_rows(1, 4).expand(3, 4).clone()
    tuples = torch.stack([coinciding, unit_rows(9, 4, seed=1)[:3]])
    assert gradcheck(gram_determinant, tuples.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gram_determinant_of_half_precision_is_computed_in_single(dtype: torch.dtype):
    tuples = unit_rows(6, 4).view(2, 3, 4).to(dtype)
    actual = gram_determinant(tuples)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), gram_determinant(tuples.double()), rtol=0, atol=1e-6)


def test_the_gram_determinant_ignores_rotations():
    tuples, rotation = unit_rows(15, 4).view(5, 3, 4), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    torch.testing.assert_close(gram_determinant(tuples @ rotation), gram_determinant(tuples), rtol=0, atol=1e-12)


@of_every_metric
def test_metrics_ignore_rotations(metric: Callable[[Tensor], Tensor]):
    x, rotation = random_rows(7, 4), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    torch.testing.assert_close(metric(x @ rotation), metric(x), rtol=0, atol=1e-12)


@of_every_metric
def test_metrics_are_differentiable(metric: Callable[[Tensor], Tensor]):
    # Seven rows reversed keep the middle one in place: a pair at distance zero, where alignment is still smooth.
    assert gradcheck(metric, random_rows(7, 4).requires_grad_())


@of_every_metric
def test_metrics_ignore_lengths_by_default(metric: Callable[[Tensor], Tensor]):
    x, lengths = random_rows(7, 4), torch.arange(1.0, 8.0, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(metric(x * lengths), metric(x), rtol=0, atol=1e-12)


@of_every_metric
def test_metrics_of_half_precision_are_computed_in_single(metric: Callable[[Tensor], Tensor]):
    x = random_rows(7, 4).to(torch.bfloat16)
    torch.testing.assert_close(metric(x), metric(x.double()).float(), rtol=0, atol=1e-5)


def test_gradients_stay_finite_for_collapsed_clouds():
    for metric in (uniformity, lambda x: modality_gap(x, x.flip(0)).gap, lambda x: modality_gap(x, x.flip(0)).floor):
        x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.grad(metric(x), x)[0].isfinite().all()


@pytest.mark.parametrize("metric", [uniformity, lambda x: modality_gap(x, unit_rows(3, 4))])
def test_one_row_is_too_few(metric: Callable[[Tensor], object]):
    with pytest.raises(ValueError, match=r"^`x` must have at least 2 rows, but got shape \[1, 4\]\.$"):
        metric(unit_rows(1, 4))


@pytest.mark.parametrize("value", [0.0, -2.0, float("inf")])
def test_powers_and_potentials_must_be_positive(value: float):
    x = unit_rows(3, 4)
    with pytest.raises(ValueError, match="`alpha` must be positive"):
        alignment(x, x, alpha=value)
    for measure in (lambda: uniformity(x, t=value), lambda: uniformity_floor(4, t=value)):
        with pytest.raises(ValueError, match="`t` must be positive"):
            measure()
