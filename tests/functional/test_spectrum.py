import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from hf_contrastive.functional import effective_rank, spectrum
from tests.functional.rows import random_rows, unit_rows


@pytest.mark.parametrize(("n", "d"), [(50, 4), (3, 6), (2, 2)])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_spectrum_is_that_of_numpys_covariance(n: int, d: int, normalize: bool):
    x = random_rows(n, d) * torch.arange(1.0, d + 1, dtype=torch.float64)
    rows = (x / x.norm(dim=1, keepdim=True) if normalize else x).numpy()
    expected = np.linalg.eigvalsh(np.cov(rows, rowvar=False))[::-1]
    actual = spectrum(x, normalize=normalize)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-12 * d**2)
    assert (actual >= 0).all()


def test_the_spectrum_sums_to_the_total_variance():
    x = unit_rows(30, 5)
    assert spectrum(x).sum().item() == pytest.approx(x.var(dim=0).sum().item(), abs=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_all_directions_count_where_all_vary_alike(d: int):
    axes = torch.eye(d, dtype=torch.float64)
    assert effective_rank(torch.cat([axes, -axes])).item() == pytest.approx(d, abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.99])
def test_the_effective_rank_of_two_directions_is_the_exponential_of_their_entropy(share: float):
    # Points on two axes: the variances are in proportion to the squared coordinates.
    a, b = math.sqrt(share), math.sqrt(1 - share)
    x = torch.tensor([[a, 0, 0], [-a, 0, 0], [0, b, 0], [0, -b, 0]], dtype=torch.float64)
    expected = math.exp(-share * math.log(share) - (1 - share) * math.log(1 - share))
    assert effective_rank(x, normalize=False).item() == pytest.approx(expected, abs=1e-9)


def test_a_line_has_rank_one():
    x = torch.linspace(-1, 2, 9, dtype=torch.float64).unsqueeze(1) * unit_rows(1, 4)
    assert effective_rank(x, normalize=False).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [2, 8, 64])
def test_a_collapsed_cloud_has_rank_one(dtype: torch.dtype, width: int):
    x = unit_rows(1, width, seed=width).to(dtype).expand(7, width)
    assert effective_rank(x).item() == pytest.approx(1, abs=1e-3)


def test_the_effective_rank_of_few_rows_is_at_most_their_number_less_one():
    assert effective_rank(unit_rows(4, 16)).item() <= 3 + 1e-9


def test_the_effective_rank_ignores_rotations():
    x, rotation = unit_rows(20, 4), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    torch.testing.assert_close(effective_rank(x @ rotation), effective_rank(x), rtol=0, atol=1e-10)


def test_both_are_differentiable_where_the_cloud_spans_the_space():
    x = random_rows(7, 3).requires_grad_()
    assert gradcheck(spectrum, x)
    assert gradcheck(effective_rank, x)


def test_the_gradient_of_the_effective_rank_is_finite_for_few_rows():
    x = random_rows(4, 8).requires_grad_()
    assert torch.autograd.grad(effective_rank(x), x)[0].isfinite().all()


def test_one_row_has_no_spectrum():
    with pytest.raises(ValueError, match=r"^`x` must have at least 2 rows, but got shape \[1, 4\]\.$"):
        spectrum(unit_rows(1, 4))
