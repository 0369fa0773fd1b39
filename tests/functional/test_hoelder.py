import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import uniformity
from hf_contrastive.functional.hoelder import cauchy_schwarz_divergence, hoelder_divergence
from tests.functional.rows import random_rows, unit_rows


ANGLES = torch.arange(512, dtype=torch.float64) * (2 * math.pi / 512)


def clouds(num: int, *, rows: int = 6, d: int = 3) -> list[Tensor]:
    return [unit_rows(rows + seed, d, seed=seed) for seed in range(num)]


def kernel(u: Tensor, v: Tensor, t: float) -> float:
    return math.exp(-t * math.dist(u.tolist(), v.tolist()) ** 2)


def loop(clouds: list[Tensor], t: float, anchors: list[int], leave_one_out: bool) -> float:
    """papers.md 5.3, one row after the other."""
    count = len(clouds)

    def density(m: int, z: Tensor, skip: int | None = None) -> float:
        values = [kernel(z, w, t) for j, w in enumerate(clouds[m]) if j != skip]
        return sum(values) / len(values)

    own = 0.0
    for m, cloud in enumerate(clouds):
        powers = [density(m, z, i if leave_one_out else None) ** (count - 1) for i, z in enumerate(cloud)]
        own += math.log(sum(powers) / len(powers)) / count
    overlap = 0.0
    for a in anchors:
        products = [math.prod(density(n, z) for n in range(count) if n != a) for z in clouds[a]]
        overlap += math.log(sum(products) / len(products)) / len(anchors)
    return own - overlap


@pytest.mark.parametrize("num", [2, 3, 4])
@pytest.mark.parametrize("leave_one_out", [True, False])
@pytest.mark.parametrize("anchor", [None, 0, 1])
def test_matches_a_loop_over_rows_of_clouds_of_any_size(num: int, leave_one_out: bool, anchor: int | None):
    rows = clouds(num)
    expected = loop(rows, 1.5, list(range(num)) if anchor is None else [anchor], leave_one_out)
    actual = hoelder_divergence([3 * x for x in rows], t=1.5, anchor=anchor, leave_one_out=leave_one_out)
    assert actual.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_gradients_match_finite_differences(leave_one_out: bool):
    inputs = tuple(x.requires_grad_() for x in clouds(3, rows=4))
    assert gradcheck(lambda *x: hoelder_divergence(list(x), t=1.5, leave_one_out=leave_one_out), inputs)


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_of_two_clouds_is_half_the_cauchy_schwarz_divergence(leave_one_out: bool):
    x, y = clouds(2)
    gram = [
        torch.exp(-2.0 * torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square())
        for a, b in ((x, x), (y, y), (x, y))
    ]
    if leave_one_out:
        own = [(k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in gram[:2]]
    else:
        own = [k.mean() for k in gram[:2]]
    expected = -torch.log(gram[2].mean() ** 2 / (own[0] * own[1]))
    torch.testing.assert_close(
        cauchy_schwarz_divergence(x, y, leave_one_out=leave_one_out), expected, rtol=0, atol=1e-12
    )
    half = hoelder_divergence([x, y], leave_one_out=leave_one_out)
    torch.testing.assert_close(2 * half, expected, rtol=0, atol=1e-12)


def test_v_statistics_of_two_clouds_are_minus_the_log_cosine_of_their_mean_embeddings_so_never_negative():
    for seed in range(30):
        x, y = unit_rows(5, 2, seed=seed), unit_rows(7, 2, seed=seed + 100)
        assert hoelder_divergence([x, y], leave_one_out=False).item() > 0
        assert abs(hoelder_divergence([x, x.flip(0)], leave_one_out=False).item()) < 1e-12
        assert hoelder_divergence([x, x]).item() < 0  # the partners are in the other cloud's density only


def test_extreme_sharpness_does_not_underflow():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    # Own potentials are e^-4t; of the other cloud's two rows one is the row itself, so the density is 1/2.
    assert hoelder_divergence([x, x], t=1e4).item() == pytest.approx(-4e4 + math.log(2))


# ---- On the circle, where quadrature knows the truth: papers.md 5.3 ----


def von_mises(mean: float, concentration: float) -> Tensor:
    density = torch.exp(concentration * (torch.cos(ANGLES - mean) - 1))
    return density / integral(density)


def integral(values: Tensor) -> Tensor:
    return values.sum() * (2 * math.pi / len(ANGLES))


def exact(densities: list[Tensor], smooth: list[Tensor] | None = None) -> float:
    """Hölder divergence by quadrature; with `smooth`, the value that the estimator has with infinitely many rows."""
    smooth, count = smooth or densities, len(densities)
    own = sum(math.log(integral(p * q ** (count - 1))) / count for p, q in zip(densities, smooth, strict=True))
    others = [math.prod(q for n, q in enumerate(smooth) if n != a) for a in range(count)]
    return own - sum(math.log(integral(p * q)) for p, q in zip(densities, others, strict=True)) / count


def smoothed(density: Tensor, t: float) -> Tensor:
    kernels = torch.exp(-t * (2 - 2 * torch.cos(ANGLES.unsqueeze(1) - ANGLES)))
    return integral(density) * (kernels @ density) / kernels[0].sum()


def sample(mean: float, concentration: float, n: int, seed: int) -> Tensor:
    angles = torch.from_numpy(np.random.default_rng(seed).vonmises(mean, concentration, n))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_the_exact_value_of_two_densities_on_the_circle():
    pair = [von_mises(0, 3), von_mises(0.8, 3)]
    assert exact(pair) == pytest.approx(0.43028, abs=5e-6)
    overlap, squares = integral(pair[0] * pair[1]), integral(pair[0] ** 2) * integral(pair[1] ** 2)
    assert -math.log(overlap**2 / squares) / 2 == pytest.approx(0.43028, abs=5e-6)


def test_the_exact_value_is_never_negative_and_zero_where_all_densities_agree():
    generator = np.random.default_rng(0)
    for _ in range(100):
        four = [von_mises(*generator.uniform((-3, 0), (3, 8))) for _ in range(4)]
        assert exact(four) > 0
    assert exact([four[0]] * 3) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("tau", [0.1, 0.25, 0.5])
def test_leave_one_out_estimates_scatter_around_the_value_after_smoothing(tau: float):
    places, t = [(0.0, 4.0), (0.7, 2.0), (-0.7, 2.0)], 1 / (2 * tau**2)
    densities = [von_mises(*place) for place in places]
    truth = exact(densities, [smoothed(p, t) for p in densities])
    values = []
    for seed in range(12):
        values.append(hoelder_divergence([sample(*p, 600, 10 * seed + i) for i, p in enumerate(places)], t=t).item())
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    # Three standard errors, and those must be small enough to mean something.
    assert error < 0.04
    assert abs(np.mean(values) - truth) < 3 * error


@pytest.mark.parametrize("num", [2, 3, 4])
def test_is_bounded_by_uniformity_and_alignment_as_unialign_weighs_them(num: int):
    t, n = 2.0, 9
    for noise in (0.01, 0.3, 2.0):
        base = random_rows(n, 4)
        rows = [base + noise * random_rows(n, 4, seed=1 + m) for m in range(num)]
        rows = [x / x.norm(dim=1, keepdim=True) for x in rows]
        # The bound is of V-statistics, so its uniformity counts each row's potential with itself.
        spread = [math.log((1 + (n - 1) * math.exp(uniformity(x, t=t))) / n) for x in rows]
        distances = [(rows[i] - rows[j]).square().sum(1).mean().item() for i in range(num) for j in range(i)]
        alignment = sum(distances) / len(distances)
        bound = sum(spread) / num + (num - 1) * t * alignment + (num - 1) * math.log(n)
        assert hoelder_divergence(rows, t=t, leave_one_out=False).item() <= bound + 1e-12


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([unit_rows(3, 2)], {}, "`clouds` must hold at least two clouds to compare, but got 1."),
        ([unit_rows(3, 2), unit_rows(1, 2)], {}, "`clouds[1]` must have at least 2 rows, but got shape [1, 2]."),
        (
            [unit_rows(3, 2), unit_rows(3, 4)],
            {},
            "`clouds[0]` and `clouds[1]` must have the same width, but got shapes [3, 2] and [3, 4].",
        ),
        ([unit_rows(3, 2)] * 2, {"anchor": 2}, "`anchor` must be the place of one of 2 clouds, but got 2."),
        ([unit_rows(3, 2)] * 2, {"t": 0.0}, "`t` must be positive and finite, but got 0.0."),
    ],
)
def test_refuses_what_it_is_not_defined_for(given: list[Tensor], options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        hoelder_divergence(given, **options)
