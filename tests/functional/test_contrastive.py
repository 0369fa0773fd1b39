import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import info_nce, positive_logits, sigmoid_loss
from tests.functional.rows import double, unit_rows


POSITIVES = torch.tensor([2, 0, 3])
CANDIDATES = torch.tensor([True, False, True, True])
with_candidates = pytest.mark.parametrize("candidates", [None, CANDIDATES], ids=["all keys", "some keys"])


def arguments() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    queries, keys = unit_rows(3, 5), unit_rows(4, 5, seed=1)
    return queries.requires_grad_(), keys.requires_grad_(), double(4.0), double(-1.5)


def takes_part(j: int, candidates: Tensor | None) -> bool:
    return candidates is None or bool(candidates[j])


def info_nce_loop(queries: Tensor, keys: Tensor, scale: Tensor, candidates: Tensor | None) -> Tensor:
    """Van den Oord et al. 2018, Equation 4, one query at a time."""
    rows = []
    for i, p in enumerate(POSITIVES):
        density = [torch.exp(scale * queries[i].dot(key)) for key in keys]
        rows.append(-torch.log(density[p] / sum(f for j, f in enumerate(density) if takes_part(j, candidates))))
    return torch.stack(rows)


def sigmoid_loop(queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor, candidates: Tensor | None) -> Tensor:
    """Zhai et al. 2023, Algorithm 1, one pair at a time."""
    rows = []
    for i, p in enumerate(POSITIVES):
        terms = []
        for j, key in enumerate(keys):
            if takes_part(j, candidates):
                label = 1 if j == p else -1
                terms.append(-torch.log(1 / (1 + torch.exp(-label * (scale * queries[i].dot(key) + bias)))))
        rows.append(sum(terms))
    return torch.stack(rows)


@with_candidates
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, 9])
def test_info_nce_matches_a_loop_in_value_and_gradient(candidates: Tensor | None, chunk_size: int | None):
    queries, keys, scale, _ = inputs = arguments()
    actual = info_nce(queries, keys, POSITIVES, scale, candidates=candidates, chunk_size=chunk_size)
    expected = info_nce_loop(queries, keys, scale, candidates)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(actual.mean(), inputs[:3]),
        torch.autograd.grad(expected.mean(), inputs[:3]),
        rtol=0,
        atol=1e-12,
    )


@with_candidates
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 3, 9])
def test_sigmoid_loss_matches_a_loop_in_value_and_gradient(candidates: Tensor | None, chunk_size: int | None):
    queries, keys, scale, bias = inputs = arguments()
    actual = sigmoid_loss(queries, keys, POSITIVES, scale, bias, candidates=candidates, chunk_size=chunk_size)
    expected = sigmoid_loop(queries, keys, scale, bias, candidates)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(actual.mean(), inputs), torch.autograd.grad(expected.mean(), inputs), rtol=0, atol=1e-12
    )


@with_candidates
def test_gradients_of_info_nce_match_finite_differences(candidates: Tensor | None):
    assert gradcheck(lambda q, k, s: info_nce(q, k, POSITIVES, s, candidates=candidates), arguments()[:3])


@with_candidates
def test_gradients_of_sigmoid_loss_match_finite_differences(candidates: Tensor | None):
    assert gradcheck(lambda q, k, s, b: sigmoid_loss(q, k, POSITIVES, s, b, candidates=candidates), arguments())


def test_an_excluded_key_gets_no_gradient():
    queries, keys, scale, bias = arguments()
    for rows in (
        info_nce(queries, keys, POSITIVES, scale, candidates=CANDIDATES),
        sigmoid_loss(queries, keys, POSITIVES, scale, bias, candidates=CANDIDATES),
    ):
        assert torch.autograd.grad(rows.sum(), keys)[0][1].eq(0).all()


def test_positive_logits_are_scaled_cosines_of_matching_rows():
    queries, keys, scale, _ = arguments()
    expected = [4.0 * torch.dot(queries[i], keys[p]).item() for i, p in enumerate(POSITIVES)]
    assert positive_logits(queries, keys, POSITIVES, scale).tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("k", [2, 7, 100])
def test_info_nce_is_log_k_where_all_keys_look_alike(k: int):
    keys = unit_rows(1, 5).expand(k, 5)
    losses = info_nce(unit_rows(k, 5, seed=1), keys, torch.arange(k), 20.0)
    torch.testing.assert_close(losses, torch.full((k,), math.log(k), dtype=torch.float64), rtol=0, atol=1e-12)


def test_info_nce_vanishes_where_every_query_is_certain():
    rows = torch.eye(4, dtype=torch.float64)
    losses = info_nce(rows, rows, torch.arange(4), 100.0)
    assert (losses >= 0).all()
    assert losses.max().item() < 1e-40 + 4 * math.exp(-100)


def test_sigmoid_loss_at_the_advised_bias_starts_at_one_positive_among_k():
    # Orthogonal rows and a bias of -log(k - 1): each pair is judged a match with probability 1/k.
    k = 8
    loss = sigmoid_loss(torch.zeros(1, 3), torch.zeros(k, 3), torch.tensor([0]), 1.0, -math.log(k - 1))
    assert loss.item() == pytest.approx(math.log(k) + (k - 1) * math.log(k / (k - 1)), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    log_temperature=st.floats(-3, 1),
    bias=st.floats(-20, 20),
    seed=st.integers(0, 1000),
    single=st.booleans(),
)
def test_losses_and_gradients_are_finite_at_every_temperature_in_use(
    log_temperature: float, bias: float, seed: int, single: bool
):
    dtype = torch.float32 if single else torch.float64
    queries, keys = unit_rows(6, 3, seed).to(dtype), unit_rows(6, 3, seed + 1).to(dtype)
    scale, shift = (torch.tensor(value, dtype=dtype) for value in (10**-log_temperature, bias))
    inputs = [x.requires_grad_() for x in (queries, keys, scale, shift)]
    positives = torch.arange(6)
    for rows in (info_nce(queries, keys, positives, scale), sigmoid_loss(queries, keys, positives, scale, shift)):
        assert rows.isfinite().all()
        # Both losses are nonnegative; the two sums round differently, by at most some ulps of the largest logit.
        assert rows.min().item() >= -8 * torch.finfo(dtype).eps * (scale.item() + abs(bias))
        for gradient in torch.autograd.grad(rows.sum(), inputs, allow_unused=True, materialize_grads=True):
            assert gradient.isfinite().all()
