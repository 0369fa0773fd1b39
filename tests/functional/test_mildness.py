import math
from collections.abc import Callable

import pytest
from torch import Tensor

from hf_contrastive.functional import alignment_bound
from tests.functional.rows import random_rows, unit_rows


N, D = 4000, 16
MAPS = random_rows(D, D, seed=7), random_rows(D, D, seed=8)
ENCODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x @ MAPS[0],
    "sign": lambda x: (x @ MAPS[0]).sign(),
    "tanh": lambda x: (x @ MAPS[0]).tanh(),
    "shifted": lambda x: x @ MAPS[0] + 3,
    "absolute": lambda x: (x @ MAPS[0]).abs(),
}


def channel(a: float, seed: int) -> tuple[Tensor, Tensor]:
    """Two views A x + sqrt(1 - A^2) e of Gaussian inputs: their mildness is A^2."""
    base = random_rows(N, D, seed)
    return tuple(a * base + math.sqrt(1 - a**2) * random_rows(N, D, seed + k) for k in (100, 200))


@pytest.mark.parametrize("a", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
def test_no_encoder_of_a_gaussian_channel_passes_the_bound(encoder: Callable[[Tensor], Tensor], a: float):
    x, y = (encoder(view) for view in channel(a, seed=1))
    actual = alignment_bound(x, y, a**2)
    assert actual.alignment.item() <= actual.bound.item() + 3 * actual.standard_error.item()


@pytest.mark.parametrize("a", [0.3, 0.9])
def test_nor_do_two_encoders_of_different_centers(a: float):
    views = channel(a, seed=1)
    for x in (views[0] @ MAPS[0] + 3, (views[0] @ MAPS[0]).abs()):
        for y in (views[1] @ MAPS[0] - 2, (views[1] @ MAPS[1]).tanh(), (views[1] @ MAPS[0]).abs()):
            actual = alignment_bound(x, y, a**2)
            assert actual.alignment.item() <= actual.bound.item() + 3 * actual.standard_error.item()


def test_a_linear_encoder_comes_near_the_bound():
    # papers.md 2.1: 0.351 of 0.360 at A = 0.6; the cosine is below the correlation by about 1 / d.
    views = channel(0.6, seed=1)
    actual = alignment_bound(*views, 0.36)
    assert 0.33 < actual.alignment.item() < 0.36
    assert actual.bound.item() == pytest.approx(0.36, abs=0.01)


def test_for_one_law_the_bound_is_that_of_the_paper():
    x = unit_rows(20, 4) + 0.3
    unit = x / x.norm(dim=1, keepdim=True)
    squared = float(unit.mean(0).square().sum())
    actual = alignment_bound(x, x.flip(0), 0.4)
    assert actual.bound.item() == pytest.approx(0.4 + 0.6 * squared, abs=1e-12)
    cosines = (unit * unit.flip(0)).sum(dim=1)
    assert actual.alignment.item() == pytest.approx(cosines.mean().item(), abs=1e-12)
    assert actual.standard_error.item() == pytest.approx(cosines.std().item() / math.sqrt(20), abs=1e-12)


def test_too_small_a_mildness_is_exceeded_by_many_standard_errors():
    actual = alignment_bound(*channel(0.9, seed=1), 0.3)
    assert actual.alignment.item() > actual.bound.item() + 20 * actual.standard_error.item()


@pytest.mark.parametrize("mildness", [-0.1, 1.1, float("nan")])
def test_a_mildness_is_a_share(mildness: float):
    with pytest.raises(ValueError, match="`mildness` is a share of variance, from 0 to 1"):
        alignment_bound(unit_rows(4, 3), unit_rows(4, 3), mildness)
