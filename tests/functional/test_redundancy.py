import pytest
import torch
from torch.autograd import gradcheck

from hf_contrastive.functional.redundancy import barlow_twins, covariance_penalty, cross_correlation, variance_hinge
from tests.functional.rows import random_rows


def test_variance_hinge_matches_a_loop_over_coordinates():
    x = random_rows(6, 4) * torch.tensor([0.1, 0.5, 1.0, 3.0])
    shortfalls = [max(0.0, 1 - (column.var().item() + 1e-4) ** 0.5) for column in x.T]
    assert any(shortfalls)
    assert not all(shortfalls)
    assert variance_hinge(x).item() == pytest.approx(sum(shortfalls) / 4, abs=1e-12)


def test_covariance_penalty_matches_torchs_covariance():
    x = random_rows(6, 4)
    covariance = torch.cov(x.T)
    expected = sum(covariance[i, j].item() ** 2 for i in range(4) for j in range(4) if i != j) / 4
    assert covariance_penalty(x).item() == pytest.approx(expected, abs=1e-12)


def test_cross_correlation_is_that_of_torch_between_two_sets_of_coordinates():
    x, y = 3 * random_rows(9, 4) + 1, random_rows(9, 4, seed=1)
    expected = torch.corrcoef(torch.cat([x, y], dim=1).T)[:4, 4:]
    torch.testing.assert_close(cross_correlation(x, y, eps=1e-14), expected, rtol=0, atol=1e-9)


def test_barlow_twins_matches_a_loop_over_pairs_of_coordinates():
    x, y = random_rows(9, 4), random_rows(9, 4, seed=1)
    c = cross_correlation(x, y)
    expected = sum(
        (1 - c[i, j].item()) ** 2 if i == j else 0.3 * c[i, j].item() ** 2 for i in range(4) for j in range(4)
    )
    assert barlow_twins(x, y, off_diagonal_weight=0.3).item() == pytest.approx(expected, abs=1e-12)


def test_all_are_zero_for_uncorrelated_coordinates_that_agree_and_vary():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert variance_hinge(x).item() == 0
    assert covariance_penalty(x).item() == 0
    assert barlow_twins(x, x, off_diagonal_weight=1.0).item() == pytest.approx(0, abs=1e-9)


def test_collapsed_rows_fall_short_by_the_whole_target_and_correlate_with_nothing():
    x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    assert variance_hinge(x, target=2.0).item() == pytest.approx(2 - 0.01)
    assert barlow_twins(x, x).item() == pytest.approx(3)
    for value in (variance_hinge(x), barlow_twins(x, x)):
        assert torch.autograd.grad(value, x)[0].isfinite().all()


def test_gradients_match_finite_differences():
    x, y = random_rows(5, 3).requires_grad_(), random_rows(5, 3, seed=1).requires_grad_()
    assert gradcheck(lambda x: variance_hinge(x, target=5.0), (x,))
    assert gradcheck(covariance_penalty, (x,))
    assert gradcheck(lambda x, y: barlow_twins(x, y, off_diagonal_weight=0.3), (x, y))


def test_single_rows_and_an_eps_of_zero_are_refused():
    one = random_rows(1, 3)
    for function in (variance_hinge, covariance_penalty):
        with pytest.raises(ValueError, match=r"^`x` must have at least 2 rows, but got shape \[1, 3\]\.$"):
            function(one)
    with pytest.raises(ValueError, match=r"^`x` must have at least 2 rows, but got shape \[1, 3\]\.$"):
        barlow_twins(one, one)
    with pytest.raises(ValueError, match=r"^`eps` must be positive and finite, but got 0\.0\.$"):
        variance_hinge(random_rows(4, 3), eps=0.0)
