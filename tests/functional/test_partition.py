import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import log_partition, map_rows
from tests.functional.rows import double, random_rows, unit_rows


QUERIES, KEYS = 5, 6
OPTIONS = {
    "plain": {},
    "candidates": {"candidates": torch.tensor([True, False, True, True, False, True])},
    "skip": {"skip": torch.tensor([0, 3, 3, 5, 1])},
    "key_bias": {"key_bias": random_rows(1, KEYS, seed=9)[0]},
}
OPTIONS["all"] = OPTIONS["candidates"] | OPTIONS["skip"] | OPTIONS["key_bias"]
with_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def loop(
    queries: Tensor,
    keys: Tensor,
    scale: Tensor,
    candidates: Tensor | None = None,
    skip: Tensor | None = None,
    key_bias: Tensor | None = None,
) -> Tensor:
    """The definition, one key at a time."""
    values = []
    for i, query in enumerate(queries):
        terms = []
        for j, key in enumerate(keys):
            if (candidates is None or candidates[j]) and (skip is None or skip[i] != j):
                terms.append(torch.exp(scale * query.dot(key) + (0 if key_bias is None else key_bias[j])))
        values.append(torch.stack(terms).sum().log())
    return torch.stack(values)


def arguments() -> tuple[Tensor, Tensor, Tensor]:
    return unit_rows(QUERIES, 4).requires_grad_(), unit_rows(KEYS, 4, seed=1).requires_grad_(), double(3.0)


@with_options
@pytest.mark.parametrize("chunk_size", [None, *range(1, QUERIES + 4)])
def test_value_and_gradient_match_a_loop_whatever_the_chunk(options: dict[str, Tensor], chunk_size: int | None):
    inputs = arguments()
    weights = torch.arange(1.0, QUERIES + 1, dtype=torch.float64)
    actual, expected = log_partition(*inputs, **options, chunk_size=chunk_size), loop(*inputs, **options)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(weights @ actual, inputs),
        torch.autograd.grad(weights @ expected, inputs),
        rtol=0,
        atol=1e-12,
    )


def test_the_bias_of_a_key_gets_its_gradient():
    queries, keys, scale = arguments()
    bias = random_rows(1, KEYS, seed=9)[0].requires_grad_()
    skip = OPTIONS["skip"]["skip"]
    assert gradcheck(
        lambda *inputs: log_partition(*inputs[:3], key_bias=inputs[3], skip=skip, chunk_size=2),
        (queries, keys, scale, bias),
    )


def test_a_scale_may_be_a_plain_number():
    queries, keys, scale = arguments()
    torch.testing.assert_close(log_partition(queries, keys, 3.0), log_partition(queries, keys, scale))


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_without_keys_is_very_negative_and_has_no_gradient(dtype: torch.dtype, chunk_size: int | None):
    inputs = [x.detach().to(dtype).requires_grad_() for x in arguments()]
    none = torch.zeros(KEYS, dtype=torch.bool)
    values = log_partition(*inputs, candidates=none, chunk_size=chunk_size)
    assert values.isfinite().all()
    assert (values < -1e30).all()
    for gradient in torch.autograd.grad(values.sum(), inputs):
        assert gradient.eq(0).all()


def test_a_query_that_skips_its_only_key_has_no_gradient():
    inputs = arguments()
    only = torch.tensor([False, False, True, False, False, False])
    skip = torch.tensor([2, 2, 0, 1, 2])  # queries 0, 1 and 4 lose the one candidate
    values = log_partition(*inputs, candidates=only, skip=skip)
    gradient, _, _ = torch.autograd.grad(values.sum(), inputs)
    assert values.isfinite().all()
    assert gradient[[0, 1, 4]].eq(0).all()
    torch.testing.assert_close(gradient[2], 3.0 * inputs[1][2].detach())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
@pytest.mark.parametrize("scale", [1e-3, 1e3, -1e3])
def test_large_scales_neither_overflow_nor_underflow(scale: float, dtype: torch.dtype, tolerance: float):
    queries, keys = unit_rows(5, 4).to(dtype).requires_grad_(), unit_rows(6, 4, seed=1).to(dtype)
    actual = log_partition(queries, keys, scale)
    logits = scale * queries.detach().double().numpy() @ keys.double().numpy().T
    np.testing.assert_allclose(actual.detach().numpy(), logsumexp(logits, axis=1), rtol=0, atol=tolerance)
    assert torch.autograd.grad(actual.sum(), queries)[0].isfinite().all()


def test_map_rows_hands_out_chunks_in_order_and_passes_missing_rows_on():
    seen = []

    def fn(x: Tensor, missing: None, y: Tensor) -> Tensor:
        assert missing is None
        seen.append(len(x))
        return x + y

    x, y = torch.arange(7.0), torch.arange(7.0) * 10
    with torch.no_grad():
        torch.testing.assert_close(map_rows(fn, x, None, y, chunk_size=3), x + y)
    assert seen == [3, 3, 1]


def test_map_rows_calls_once_where_one_chunk_holds_all_rows():
    for chunk_size in (None, 7, 100):
        seen: list[int] = []
        map_rows(lambda x, seen=seen: seen.append(len(x)) or x, torch.ones(7), chunk_size=chunk_size)
        assert seen == [7]


def test_map_rows_computes_chunks_again_in_the_backward_pass():
    calls = []
    x = torch.arange(4.0, requires_grad=True)
    total = map_rows(lambda x: calls.append(len(x)) or x.square(), x, chunk_size=2).sum()
    assert calls == [2, 2]
    total.backward()
    assert calls == [2, 2, 2, 2]
    torch.testing.assert_close(x.grad, 2 * x.detach())


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_an_empty_chunk_is_refused(chunk_size: int):
    with pytest.raises(ValueError, match=rf"^`chunk_size` must be at least 1, but got {chunk_size}\.$"):
        map_rows(torch.exp, torch.ones(3), chunk_size=chunk_size)
