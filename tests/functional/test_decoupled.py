import math

import pytest
import torch

from hf_contrastive.functional import PairMask, log_partition
from hf_contrastive.functional.decoupled import decoupled_contrastive, log_sum_or_zero, von_mises_fisher_weights
from tests.functional.rows import unit_rows


@pytest.mark.parametrize("weights", [1.0, torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)])
def test_is_the_sum_of_negatives_over_the_weighted_positive(weights: float | torch.Tensor):
    positives = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    negatives = torch.tensor([[0.0, 1.0], [2.0, -1.0], [4.0, 4.0]], dtype=torch.float64)
    expected = (negatives.exp().sum(dim=1) / (weights * positives).exp()).log()
    actual = decoupled_contrastive(positives, negatives.logsumexp(dim=1), weights)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_log_of_a_sum_without_terms_is_zero_and_has_no_gradient(dtype: torch.dtype):
    x = unit_rows(3, 4).to(dtype).requires_grad_()
    nothing = PairMask(keys=torch.zeros(3, dtype=torch.bool))
    value = log_sum_or_zero(log_partition(x, x.detach(), 5.0, mask=nothing))
    assert value.eq(0).all()
    assert torch.autograd.grad(value.sum(), x)[0].eq(0).all()


def test_other_log_sums_stay():
    logs = torch.tensor([-1e30, -5.0, 0.0, 9.0])
    torch.testing.assert_close(log_sum_or_zero(logs), logs, rtol=0, atol=0)


def test_weights_match_the_ratio_to_the_mean_kernel():
    cosines = [0.9, 0.1, -0.4]
    kernels = [math.exp(c / 0.3) for c in cosines]
    expected = [2 - kernel / (sum(kernels) / 3) for kernel in kernels]
    actual = von_mises_fisher_weights(torch.tensor(cosines, dtype=torch.float64), 0.3)
    assert actual.tolist() == pytest.approx(expected, abs=1e-12)
    assert actual.mean().item() == pytest.approx(1, abs=1e-12)


def test_weights_of_no_pairs_are_none():
    assert von_mises_fisher_weights(torch.zeros(0)).shape == (0,)
