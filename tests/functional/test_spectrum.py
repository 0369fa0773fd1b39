import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import (
    condition_number,
    effective_rank,
    entropy_rank,
    expected_effective_rank,
    iso_score,
    isotropic_spectrum,
    numerical_rank,
    participation_ratio,
    rank_me,
    spectrum,
    summarize_spectrum,
    variance_share,
)
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


# ---- Functions of eigenvalues ----


def wide_rows(n: int, d: int, seed: int = 0) -> Tensor:
    """Rows whose coordinates differ in deviation by a factor of ten."""
    return random_rows(n, d, seed) * torch.logspace(0, -1, d, dtype=torch.float64)


def test_single_precision_rows_keep_their_small_eigenvalues():
    """Products in single precision would round at 1e-7 of the largest; these go down to 1e-10 of it."""
    x = (random_rows(400, 6) * torch.logspace(0, -5, 6, dtype=torch.float64)).float()
    expected = np.linalg.eigvalsh(np.cov(x.double().numpy(), rowvar=False))[::-1]
    np.testing.assert_allclose(spectrum(x, normalize=False).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (4, 7)])
def test_the_participation_ratio_is_traces_of_the_covariance(n: int, d: int):
    x = wide_rows(n, d)
    covariance = torch.cov(x.T)
    expected = covariance.trace() ** 2 / (covariance @ covariance).trace()
    torch.testing.assert_close(participation_ratio(spectrum(x, normalize=False)), expected, rtol=0, atol=1e-9)


def rudman_iso_score(x: Tensor) -> float:
    """The paper's Algorithm 1, step by step, with a principal component analysis of its own."""
    centered = (x - x.mean(0)).numpy()
    d = centered.shape[1]
    rotated = centered @ np.linalg.svd(centered, full_matrices=False)[2].T
    variances = np.cov(rotated, rowvar=False).diagonal()
    scaled = np.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    share = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    return (d * share - 1) / (d - 1)


@pytest.mark.parametrize("d", [2, 5, 12])
def test_iso_score_is_that_of_the_papers_algorithm(d: int):
    for x in (wide_rows(50, d), random_rows(50, d), wide_rows(50, d) + 3):
        assert iso_score(spectrum(x, normalize=False)).item() == pytest.approx(rudman_iso_score(x), abs=1e-9)


def test_iso_score_of_a_line_is_zero_and_of_even_directions_one():
    assert iso_score(torch.tensor([1.0, 0, 0])).item() == 0
    assert iso_score(torch.ones(5)).item() == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="needs a width of at least 2, but got 1"):
        iso_score(torch.ones(1))


def test_the_condition_number_is_the_square_of_that_of_the_centered_rows():
    x = wide_rows(40, 5)
    expected = np.linalg.cond((x - x.mean(0)).numpy()) ** 2
    assert condition_number(spectrum(x, normalize=False)).item() == pytest.approx(expected, rel=1e-9)


def test_a_ridge_or_a_rank_tame_the_condition_number_of_few_rows():
    eigenvalues = spectrum(unit_rows(4, 9))
    assert condition_number(eigenvalues).item() > 1e12
    top = condition_number(eigenvalues, rank=3).item()
    assert top == pytest.approx((eigenvalues[0] / eigenvalues[2]).item(), rel=1e-9)
    ridge = 0.01 * eigenvalues.mean()
    expected = (eigenvalues[0] + ridge) / (eigenvalues[-1] + ridge)
    assert condition_number(eigenvalues, ridge=0.01).item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_numerical_rank_is_numpys_at_the_same_tolerance():
    x = random_rows(40, 3) @ random_rows(3, 8, seed=1)
    assert numerical_rank(spectrum(x, normalize=False)).item() == 3
    # Rounding to single precision adds directions that must not count.
    assert numerical_rank(spectrum(x.float(), normalize=False)).item() == 3
    y = random_rows(40, 8) * torch.logspace(0, -7, 8, dtype=torch.float64)
    centered = (y - y.mean(0)).numpy()
    tol = 1e-4 * np.linalg.norm(centered, 2)
    assert numerical_rank(spectrum(y, normalize=False)).item() == np.linalg.matrix_rank(centered, tol=tol)


@pytest.mark.parametrize(("n", "d"), [(50, 6), (5, 9), (3, 3)])
@pytest.mark.parametrize("normalize", [True, False])
def test_rank_me_is_that_of_the_papers_singular_values(n: int, d: int, normalize: bool):
    x = wide_rows(n, d) + 0.5
    rows = x / x.norm(dim=1, keepdim=True) if normalize else x
    singular = np.linalg.svd(rows.numpy(), compute_uv=False)
    shares = singular / singular.sum() + 1e-7
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert rank_me(x, normalize=normalize).item() == pytest.approx(expected, rel=1e-6)


def test_the_share_of_the_first_directions_is_that_of_their_variance():
    eigenvalues = spectrum(wide_rows(30, 4))
    total = eigenvalues.sum()
    for k in range(1, 5):
        assert variance_share(eigenvalues, k).item() == pytest.approx(
            (eigenvalues[:k].sum() / total).item(), abs=1e-12
        )


def test_everything_is_defined_for_a_collapsed_cloud():
    summary = summarize_spectrum(spectrum(torch.ones(5, 8), normalize=False))
    assert summary.effective_rank.item() == pytest.approx(1, abs=1e-6)
    assert summary.participation_ratio.item() == pytest.approx(1, abs=1e-6)
    assert summary.top_share.item() == 1
    assert summary.iso_score.item() == pytest.approx(0, abs=1e-6)
    assert summary.numerical_rank.item() == 0
    assert summary.condition_number.item() == pytest.approx(1 + 8 / 1e-3, rel=1e-6)


def test_a_summary_is_the_functions_it_names():
    eigenvalues = spectrum(wide_rows(30, 4))
    expected = (
        entropy_rank(eigenvalues),
        participation_ratio(eigenvalues),
        numerical_rank(eigenvalues),
        condition_number(eigenvalues, ridge=0.1),
        variance_share(eigenvalues, 1),
        iso_score(eigenvalues),
    )
    assert tuple(summarize_spectrum(eigenvalues, ridge=0.1)) == expected


def test_functions_of_the_spectrum_ignore_rotations_and_are_differentiable():
    x, rotation = wide_rows(20, 4), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    for measure in (lambda x: tuple(summarize_spectrum(spectrum(x))), rank_me):
        torch.testing.assert_close(measure(x @ rotation), measure(x), rtol=0, atol=1e-9)
    y = random_rows(7, 3).requires_grad_()
    for function in (participation_ratio, condition_number, iso_score, lambda e: variance_share(e, 2)):
        assert gradcheck(lambda y, function=function: function(spectrum(y)), y)
    assert gradcheck(rank_me, y)
    assert torch.autograd.grad(rank_me(torch.ones(3, 4, requires_grad=True) * y[:1, :1]), y)[0].isfinite().all()


# ---- What few rows of a round cloud show ----


def marchenko_pastur(d: int, num_rows: int) -> np.ndarray:
    """Means of equal shares of the law, by plain quadrature over eigenvalues."""
    ratio = d / (num_rows - 1)
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    grid = np.linspace(low, high, 2_000_001)[1:-1]
    weights = np.sqrt((high - grid) * (grid - low)) / grid
    shares = np.minimum(weights.cumsum() / weights.sum() * min(d, num_rows - 1), min(d, num_rows - 1) - 1).astype(int)
    means = np.bincount(shares, weights * grid) / np.bincount(shares, weights)
    return np.concatenate([means[::-1], np.zeros(d - len(means))])


@pytest.mark.parametrize(("d", "num_rows"), [(4, 41), (8, 6), (1, 9), (20, 400)])
def test_the_isotropic_spectrum_is_the_law_of_marchenko_and_pastur(d: int, num_rows: int):
    actual = isotropic_spectrum(d, num_rows)
    np.testing.assert_allclose(actual.numpy(), marchenko_pastur(d, num_rows), rtol=1e-3)
    assert actual.sum().item() == pytest.approx(d, rel=1e-9)


@pytest.mark.parametrize(("d", "num_rows"), [(32, 400), (32, 60), (32, 20), (33, 34)])
@pytest.mark.parametrize("normalize", [True, False], ids=["sphere", "gaussian"])
def test_round_clouds_show_what_the_reference_says(d: int, num_rows: int, normalize: bool):
    samples = [summarize_spectrum(spectrum(random_rows(num_rows, d, seed), normalize=normalize)) for seed in range(30)]
    reference = summarize_spectrum(isotropic_spectrum(d, num_rows))
    for name in ("effective_rank", "participation_ratio", "iso_score", "top_share"):
        mean = torch.stack([getattr(sample, name) for sample in samples]).mean().item()
        assert getattr(reference, name).item() == pytest.approx(mean, rel=0.05), name
    assert all(sample.numerical_rank == reference.numerical_rank for sample in samples)
    conditions = torch.stack([sample.condition_number for sample in samples])
    # Where rows are as many as directions the smallest eigenvalue can be anything, so the condition number too.
    assert reference.condition_number.item() == pytest.approx(conditions.median().item(), rel=0.2)


@pytest.mark.parametrize(("d", "num_rows"), [(64, 1000), (64, 129), (64, 33)])
def test_the_closed_forms_of_the_docstrings_hold(d: int, num_rows: int):
    eigenvalues, m = isotropic_spectrum(d, num_rows), num_rows - 1
    assert participation_ratio(eigenvalues).item() == pytest.approx(d * m / (d + m), rel=0.02)
    expected = min(d, m) * math.exp(-min(d / m, m / d) / 2)
    assert entropy_rank(eigenvalues).item() == pytest.approx(expected, rel=0.005)
    edges = ((1 + math.sqrt(d / m)) / (1 - math.sqrt(d / m))) ** 2
    if m > d:
        assert 0.7 * edges < condition_number(eigenvalues).item() < edges


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: condition_number(e, ridge=-1.0), "`ridge` is a share of the mean eigenvalue, at least 0"),
        (lambda e: condition_number(e, rank=0), "`rank` counts directions, from 1 to 3, but got 0."),
        (lambda e: condition_number(e, rank=4), "`rank` counts directions, from 1 to 3, but got 4."),
        (lambda e: variance_share(e, 4), "`k` counts directions, from 1 to 3, but got 4."),
        (lambda e: numerical_rank(e, tolerance=1.0), "`tolerance` is a share of the largest eigenvalue"),
        (lambda e: isotropic_spectrum(3, 1), "needs a width of at least 1 and 2 rows, but got d=3 and num_rows=1."),
        (lambda e: rank_me(torch.eye(3), eps=-1.0), "`eps` is added to shares and must be at least 0 and below 1"),
    ],
)
def test_refuses_what_is_not_defined(call, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(torch.tensor([3.0, 2.0, 1.0]))


def test_single_precision_moves_the_effective_rank_by_little_and_never_the_double():
    x = (random_rows(300, 64) * torch.logspace(0, -3, 64, dtype=torch.float64)).float()
    exact = entropy_rank(spectrum(x.double()))
    for double, tolerance in ((True, 1e-6), (False, 1e-5)):
        assert entropy_rank(spectrum(x, double=double)).item() == pytest.approx(exact.item(), rel=tolerance)
    few = x[:30]
    expected = entropy_rank(spectrum(few.double())).item()
    assert entropy_rank(spectrum(few, double=False)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(200, 50), (50, 200), (101, 100)])
def test_evenly_spread_rows_show_the_expected_effective_rank(n: int, d: int):
    # Within half a percent already for one sample: the entropy of a large spectrum hardly varies.
    assert effective_rank(unit_rows(n, d)).item() == pytest.approx(expected_effective_rank(d, n), rel=0.01)


def test_an_effective_rank_of_one_row_is_not_expected():
    with pytest.raises(ValueError, match="at least 1 and 2 rows, but got d=4 and num_rows=1"):
        expected_effective_rank(4, 1)


def test_eigenvalues_that_are_no_numbers_make_no_ranks():
    # A cloud that has collapsed has rank one, and must not be what a NaN looks like.
    eigenvalues = torch.tensor([float("nan"), 1.0, 0.0])
    for statistic in (entropy_rank, participation_ratio, iso_score, condition_number):
        assert statistic(eigenvalues).isnan()
