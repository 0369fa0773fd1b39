import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import PairMask, sigmoid_loss
from hf_contrastive.functional.softplus import SMALL, _softplus_rows
from tests.functional.dense import KEYS, MASKS, POSITIVES, QUERIES, close, pairs_of
from tests.functional.rows import double, unit_rows


WEIGHTS = torch.tensor([0.5, 0.0, 2.0, -1.0, 0.3, 0.3, 1.0], dtype=torch.float64)
SHARED = torch.tensor([3, 3, 0, 8, 0, 3, 8])


def arguments(scale: float = 4.0, bias: float = -1.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    queries, keys = unit_rows(QUERIES, 5), unit_rows(KEYS, 5, seed=1)
    return queries.requires_grad_(), keys.requires_grad_(), double(scale), double(bias)


def loop(
    queries: Tensor,
    keys: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    positives: Tensor = POSITIVES,
    weights: Tensor | None = None,
    mask: PairMask | None = None,
) -> Tensor:
    """Zhai et al. 2023, Algorithm 1, one pair at a time."""
    taken, total = pairs_of(mask or PairMask(), queries, keys), torch.zeros((), dtype=queries.dtype)
    for i, query in enumerate(queries):
        row = torch.zeros((), dtype=queries.dtype)
        for j, key in enumerate(keys):
            if taken[i, j]:
                label = 1 if j == positives[i] else -1
                row = row + torch.log1p(torch.exp(-label * (scale * query.dot(key) + bias)))
        total = total + row * (1 / len(queries) if weights is None else weights[i])
    return total


def counts_where_positives_stay(mask: PairMask) -> Tensor:
    """Weights that are zero where a query's own pair is left out, as the function asks for."""
    stays = pairs_of(mask, unit_rows(QUERIES, 5), unit_rows(KEYS, 5, seed=1))[torch.arange(QUERIES), POSITIVES]
    return WEIGHTS * stays


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["mean", "weights"])
@pytest.mark.parametrize("positives", [POSITIVES, SHARED], ids=["own keys", "shared keys"])
@pytest.mark.parametrize(("scale", "bias"), [(4.0, -1.5), (100.0, -60.0), (0.01, 3.0)])
def test_matches_the_algorithm_in_value_and_gradient(
    weights: Tensor | None, positives: Tensor, scale: float, bias: float, tile: int
):
    inputs = arguments(scale, bias)
    actual = sigmoid_loss(*inputs[:2], positives, *inputs[2:], weights=weights)
    expected = loop(*inputs, positives=positives, weights=weights)
    close(actual, expected)
    close(torch.autograd.grad(actual, inputs), torch.autograd.grad(expected, inputs))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_left_out_pairs_do_not_count(mask: PairMask, tile: int):
    inputs, weights = arguments(), counts_where_positives_stay(mask)
    actual = sigmoid_loss(*inputs[:2], POSITIVES, *inputs[2:], weights=weights, mask=mask)
    expected = loop(*inputs, weights=weights, mask=mask)
    close(actual, expected)
    if expected.requires_grad:
        close(torch.autograd.grad(actual, inputs), torch.autograd.grad(expected, inputs))
    else:
        assert all(gradient.eq(0).all() for gradient in torch.autograd.grad(actual, inputs))


def test_a_left_out_key_gets_no_gradient():
    queries, keys, scale, bias = arguments()
    mask = MASKS["keys"]
    weights = counts_where_positives_stay(mask)
    value = sigmoid_loss(queries, keys, POSITIVES, scale, bias, weights=weights, mask=mask)
    (gradient,) = torch.autograd.grad(value, keys)
    assert gradient.eq(0).all(dim=1).equal(~mask.keys)


def test_gradients_match_finite_differences(small_tiles: int):
    assert gradcheck(lambda q, k, s, b: sigmoid_loss(q, k, SHARED, s, b, weights=WEIGHTS), arguments())


@pytest.mark.parametrize("wanted", range(4), ids=["queries", "keys", "scale", "bias"])
def test_one_input_alone_may_want_a_gradient(wanted: int, small_tiles: int):
    inputs = [z.requires_grad_(place == wanted) for place, z in enumerate(z.detach() for z in arguments())]
    actual, expected = sigmoid_loss(*inputs[:2], POSITIVES, *inputs[2:]), loop(*inputs)
    close(torch.autograd.grad(actual, inputs[wanted]), torch.autograd.grad(expected, inputs[wanted]))


def test_weights_are_constants():
    queries, keys, scale, bias = arguments()
    weights = WEIGHTS.clone().requires_grad_()
    value = sigmoid_loss(queries, keys, POSITIVES, scale, bias, weights=weights)
    assert torch.autograd.grad(value, weights, allow_unused=True) == (None,)


@pytest.mark.parametrize("largest", [1e-6, 1e-3, 0.99 * SMALL, 1.01 * SMALL])
def test_small_probabilities_are_summed_by_a_series_as_exact_as_softplus(largest: float, tile: int):
    # All pairs are negative but in name: the positives' keys are far away, so every probability is below `largest`.
    queries, keys = (z.detach().float() for z in arguments()[:2])
    bias = math.log(largest / (1 - largest)) - 1.0
    inputs = [z.requires_grad_() for z in (queries, keys, torch.tensor(1.0), torch.tensor(bias))]
    exact = [z.detach().double().requires_grad_() for z in inputs]
    negatives = sigmoid_loss(*inputs[:2], POSITIVES, *inputs[2:])
    expected = loop(*exact)
    assert negatives.item() == pytest.approx(expected.item(), rel=1e-6)
    close(torch.autograd.grad(negatives, inputs), torch.autograd.grad(expected, exact), 1e-6)


@pytest.mark.parametrize("largest", [1e-30, 1e-6, 1e-3, 0.99 * SMALL, 1.01 * SMALL, 0.5])
def test_the_series_is_exact_relative_to_its_own_sum(largest: float):
    # The loss adds positives' terms, beside which an error of the series would not show.
    logits = math.log(largest / (1 - largest)) - torch.rand(5, 300, generator=torch.Generator().manual_seed(0))
    expected = F.softplus(logits.double()).sum(dim=1)
    chance = torch.sigmoid(logits)
    actual = _softplus_rows(logits.clone(), chance.clone())
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=0)
    kept = chance.clone()
    _softplus_rows(logits, kept)
    assert kept.equal(chance)  # the gradient needs it yet


def test_at_the_advised_bias_starts_at_one_positive_among_k():
    # Orthogonal rows and a bias of -log(k - 1): each pair is judged a match with probability 1/k.
    k = 8
    loss = sigmoid_loss(torch.zeros(1, 3), torch.zeros(k, 3), torch.tensor([0]), 1.0, -math.log(k - 1))
    assert loss.item() == pytest.approx(math.log(k) + (k - 1) * math.log(k / (k - 1)), rel=1e-6)


def test_no_rows_have_no_loss():
    none = torch.zeros(0, 3, requires_grad=True)
    value = sigmoid_loss(none, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 1.0, 0.0)
    assert value.item() == 0
    assert torch.autograd.grad(value, none)[0].shape == (0, 3)


@pytest.mark.parametrize("where", [0, 1], ids=["query", "key"])
def test_what_is_not_a_number_is_not_hidden(where: int, tile: int):
    inputs = [z.detach().clone() for z in arguments()]
    inputs[where][5, 1] = torch.nan
    assert sigmoid_loss(*inputs[:2], POSITIVES, *inputs[2:]).isnan()
    assert sigmoid_loss(*(z.float() for z in inputs[:2]), POSITIVES, 1.0, -20.0).isnan()


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(QUERIES)), shift=st.integers(0, KEYS - 1))
def test_the_order_of_queries_and_keys_does_not_matter(order: list[int], shift: int):
    queries, keys, scale, bias = arguments()
    expected = sigmoid_loss(queries, keys, POSITIVES, scale, bias)
    moved = (POSITIVES[order] + shift) % KEYS
    actual = sigmoid_loss(queries[order], keys.roll(shift, 0), moved, scale, bias)
    assert actual.item() == pytest.approx(expected.item(), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(log_temperature=st.floats(-3, 1), bias=st.floats(-100, 100), seed=st.integers(0, 1000), single=st.booleans())
def test_every_temperature_and_bias_gives_the_exact_sum(log_temperature: float, bias: float, seed: int, single: bool):
    dtype = torch.float32 if single else torch.float64
    raw = unit_rows(6, 3, seed), unit_rows(6, 3, seed + 1), torch.tensor(10**-log_temperature), torch.tensor(bias)
    inputs = [z.to(dtype).requires_grad_() for z in raw]
    positives = torch.arange(6)
    value = sigmoid_loss(*inputs[:2], positives, *inputs[2:])
    x, y, scale, shift = (z.detach().double() for z in inputs)
    logits = scale * x @ y.T + shift
    labels = 2 * torch.eye(6, dtype=torch.float64) - 1
    expected = -F.logsigmoid(labels * logits).sum() / 6
    # The positive's logit is added apart from its softplus, so rounding is relative to the largest logits.
    largest = 6 * (10**-log_temperature + abs(bias))
    assert value.item() == pytest.approx(expected.item(), abs=4 * torch.finfo(dtype).eps * (largest + 1))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, inputs))
