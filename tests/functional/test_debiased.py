import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional.debiased import debiased_info_nce


def inputs(scale: float, dtype: torch.dtype = torch.float64, rows: int = 60) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of unit rows: positives from one end of what a scale allows to the other, negatives all over it."""
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(rows, 6, generator=generator, dtype=torch.float64) * 2 - 1
    positives = torch.linspace(-1, 1, rows, dtype=torch.float64)
    negatives = (scale * cosines).logsumexp(dim=1)
    numbers = torch.full((rows,), 6.0, dtype=dtype)
    return (scale * positives).to(dtype), negatives.to(dtype), numbers, torch.tensor(scale, dtype=dtype)


@pytest.mark.parametrize("scale", [1.0, 7.0, 20.0])
@pytest.mark.parametrize("tau_plus", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_matches_the_paper_in_plain_numbers(scale: float, tau_plus: float):
    """Chuang et al. 2020 with one positive."""
    positives, negatives, numbers, s = inputs(scale)
    expected, at_floor = [], 0
    for p, n in zip(positives.exp().tolist(), negatives.exp().tolist(), strict=True):
        estimate, floor = (n - 6 * tau_plus * p) / (1 - tau_plus), 6 * math.exp(-scale)
        at_floor += estimate <= floor
        expected.append(-math.log(p / (p + max(estimate, floor))))
    actual = debiased_info_nce(positives, negatives, numbers, s, tau_plus)
    assert actual.tolist() == pytest.approx(expected, abs=1e-9)
    # A large correction tries both branches.
    assert 0 < at_floor < 60 or tau_plus < 0.5


@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.5])
def test_gradients_match_finite_differences(tau_plus: float):
    positives, negatives, numbers, s = (x.requires_grad_() for x in inputs(5.0))
    assert gradcheck(lambda p, n, z: debiased_info_nce(p, n, numbers.detach(), z, tau_plus), (positives, negatives, s))


@pytest.mark.parametrize("tau_plus", [0.0, 0.1])
def test_single_precision_stands_a_scale_of_one_hundred(tau_plus: float):
    values = {}
    for dtype in (torch.float32, torch.float64):
        positives, negatives, numbers, s = inputs(100.0, dtype)
        positives, negatives, s = (x.requires_grad_() for x in (positives, negatives, s))
        value = debiased_info_nce(positives, negatives, numbers, s, tau_plus)
        values[dtype] = [value, *torch.autograd.grad(value.sum(), (positives, negatives, s))]
    for single, double in zip(values[torch.float32], values[torch.float64], strict=True):
        assert single.isfinite().all()
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tau_plus", [0.0, 0.1])
def test_a_query_without_negatives_has_no_loss_and_no_gradient(tau_plus: float):
    positives = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
    empty = torch.full((2,), torch.finfo(torch.float64).min, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    value = debiased_info_nce(positives, empty, torch.zeros(2, dtype=torch.float64), s, tau_plus)
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-12)
    for gradient in torch.autograd.grad(value.sum(), (positives, empty, s)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
