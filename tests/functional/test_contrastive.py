import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import PairMask, info_nce, mean_info_nce, positive_logits, products
from tests.functional.rows import double, unit_rows


POSITIVES = torch.tensor([2, 0, 3])
SOME_KEYS = PairMask(keys=torch.tensor([True, False, True, True]))
with_keys = pytest.mark.parametrize("mask", [None, SOME_KEYS], ids=["all keys", "some keys"])


def arguments() -> tuple[Tensor, Tensor, Tensor]:
    queries, keys = unit_rows(3, 5), unit_rows(4, 5, seed=1)
    return queries.requires_grad_(), keys.requires_grad_(), double(4.0)


def info_nce_loop(queries: Tensor, keys: Tensor, scale: Tensor, mask: PairMask | None) -> Tensor:
    """Van den Oord et al. 2018, Equation 4, one query at a time."""
    rows = []
    for i, p in enumerate(POSITIVES):
        density = [torch.exp(scale * queries[i].dot(key)) for key in keys]
        rows.append(-torch.log(density[p] / sum(f for j, f in enumerate(density) if mask is None or mask.keys[j])))
    return torch.stack(rows)


@with_keys
@pytest.mark.parametrize("keep_bytes", [2**28, 0])
def test_info_nce_matches_a_loop_in_value_and_gradient(mask: PairMask | None, keep_bytes: int):
    queries, keys, scale = inputs = arguments()
    actual = info_nce(queries, keys, POSITIVES, scale, mask=mask, keep_bytes=keep_bytes)
    expected = info_nce_loop(queries, keys, scale, mask)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(actual.mean(), inputs),
        torch.autograd.grad(expected.mean(), inputs),
        rtol=0,
        atol=1e-12,
    )


@with_keys
def test_gradients_of_info_nce_match_finite_differences(mask: PairMask | None):
    assert gradcheck(lambda q, k, s: info_nce(q, k, POSITIVES, s, mask=mask), arguments())


def test_a_left_out_key_gets_no_gradient():
    queries, keys, scale = arguments()
    rows = info_nce(queries, keys, POSITIVES, scale, mask=SOME_KEYS)
    assert torch.autograd.grad(rows.sum(), keys)[0][1].eq(0).all()


def test_positive_logits_are_scaled_cosines_of_matching_rows():
    queries, keys, scale = arguments()
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


@settings(max_examples=50, deadline=None)
@given(log_temperature=st.floats(-3, 1), seed=st.integers(0, 1000), single=st.booleans())
def test_value_and_gradient_are_finite_at_every_temperature_in_use(log_temperature: float, seed: int, single: bool):
    dtype = torch.float32 if single else torch.float64
    inputs = [unit_rows(6, 3, seed), unit_rows(6, 3, seed + 1), torch.tensor(10**-log_temperature)]
    queries, keys, scale = inputs = [x.to(dtype).requires_grad_() for x in inputs]
    rows = info_nce(queries, keys, torch.arange(6), scale)
    assert rows.isfinite().all()
    # Not negative; the two sums round differently, by at most some ulps of the largest logit.
    assert rows.min().item() >= -8 * torch.finfo(dtype).eps * scale.item()
    for gradient in torch.autograd.grad(rows.sum(), inputs):
        assert gradient.isfinite().all()


# ---- The mean of all rows ----


@pytest.mark.parametrize("keep_bytes", [2**28, 0], ids=["ours", "torch's own"])
@pytest.mark.parametrize("scale", [1e-2, 4.0, 100.0])
def test_the_mean_is_that_of_all_rows_in_value_and_gradient(keep_bytes: int, scale: float):
    queries, keys, _ = arguments()
    inputs = (queries, keys, double(scale))
    actual = mean_info_nce(queries, keys, POSITIVES, inputs[2], keep_bytes=keep_bytes)
    expected = info_nce(queries, keys, POSITIVES, inputs[2]).mean()
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(actual, inputs), torch.autograd.grad(expected, inputs), rtol=1e-12, atol=1e-12
    )


def test_the_mean_is_left_to_torch_only_where_logits_do_not_fit(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", minversion="2.13", reason="linear_cross_entropy came with torch 2.13")
    called = []
    own = F.linear_cross_entropy
    monkeypatch.setattr(F, "linear_cross_entropy", lambda *args, **kwargs: called.append(1) or own(*args, **kwargs))
    queries, keys, scale = arguments()
    for keep_bytes, times in ((3 * 4 * 8, 0), (3 * 4 * 8 - 1, 1)):
        mean_info_nce(queries, keys, POSITIVES, scale, keep_bytes=keep_bytes)
        assert len(called) == times
    # And never where it is not there.
    monkeypatch.delattr(F, "linear_cross_entropy")
    without = mean_info_nce(queries, keys, POSITIVES, scale, keep_bytes=0)
    assert without.item() == pytest.approx(info_nce(queries, keys, POSITIVES, scale).mean().item(), abs=1e-12)


@pytest.mark.parametrize("fast", [True, False])
def test_the_mean_is_not_left_to_torch_where_products_of_tiles_are_faster(fast: bool, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", minversion="2.13", reason="linear_cross_entropy came with torch 2.13")
    called = []
    own = F.linear_cross_entropy
    monkeypatch.setattr(F, "linear_cross_entropy", lambda *args, **kwargs: called.append(1) or own(*args, **kwargs))
    monkeypatch.setattr(products, "_has_onednn", lambda: fast)
    queries, keys, scale = (z.detach().float() for z in arguments())
    value = mean_info_nce(queries, keys, POSITIVES, scale, keep_bytes=0)
    assert len(called) == (not fast)
    assert value.item() == pytest.approx(info_nce(queries, keys, POSITIVES, scale).mean().item(), rel=1e-5)


def test_the_mean_of_half_precision_rows_is_in_single_precision():
    queries, keys, _ = (z.detach().bfloat16() for z in arguments())
    with torch.autocast("cpu", torch.bfloat16):
        value = mean_info_nce(queries, keys, POSITIVES, 4.0, keep_bytes=0)
    exact = info_nce(queries.double(), keys.double(), POSITIVES, 4.0).mean()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
