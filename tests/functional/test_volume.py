import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import hf_contrastive.functional.volume as volume
from hf_contrastive.functional import PairMask
from hf_contrastive.functional.volume import gram_volume, volume_partitions
from tests.functional.rows import double, random_rows


def tuples(n: int, num: int, d: int = 6, seed: int = 0) -> Tensor:
    return random_rows(n * num, d, seed=seed).view(n, num, d)


def dense(anchors: Tensor, others: Tensor, eps: float) -> Tensor:
    """Every Gram matrix of the paper's Equation 2, each determinant on its own."""
    rows = []
    for a in anchors:
        stacks = [torch.cat([a.unsqueeze(0), item]) for item in others]
        rows.append(torch.stack([(torch.linalg.det(z @ z.T) + eps).sqrt() for z in stacks]))
    return torch.stack(rows)


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("tile", [2, 256])
def test_partitions_match_all_gram_matrices(num: int, tile: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(volume, "TILE", tile)
    anchors, others, scale = random_rows(5, 6, seed=1).requires_grad_(), tuples(7, num).requires_grad_(), double(1.3)
    positives = torch.tensor([0, 2, 3, 6, 1])
    actual = volume_partitions(anchors, others, positives, scale, eps=1e-3)
    logits = -scale * dense(anchors, others, 1e-3)
    expected = logits.logsumexp(1), logits.logsumexp(0), logits[torch.arange(5), positives]
    weights = [random_rows(len(x), 1, seed=4).squeeze(1) for x in expected]
    grads = []
    for values in (actual, expected):
        loss = sum(w @ x for w, x in zip(weights, values, strict=True))
        grads.append(torch.autograd.grad(loss, (anchors, others, scale)))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


def test_partitions_leave_masked_pairs_out_and_stay_finite_where_none_is_left():
    anchors, others = random_rows(4, 6, seed=1).requires_grad_(), tuples(4, 2).requires_grad_()
    keep = torch.tensor([True, False, True, True])
    mask = PairMask(queries=torch.tensor([True, False, True, False]), keys=keep)
    rows, columns, _ = volume_partitions(anchors, others, torch.arange(4), double(2.0), mask=mask)
    logits = -2 * dense(anchors, others, volume.EPS)
    torch.testing.assert_close(rows[[0, 2]], logits[[0, 2]][:, keep].logsumexp(1), rtol=0, atol=1e-9)
    torch.testing.assert_close(columns[keep], logits[[0, 2]][:, keep].logsumexp(0), rtol=0, atol=1e-9)
    for sums in (rows[[1, 3]], columns[[1]]):
        assert sums.isfinite().all()
        assert sums.max() < -1e300
    empty = torch.autograd.grad(rows[1] + rows[3] + columns[1], (anchors, others))
    assert all(grad.eq(0).all() for grad in empty)


@pytest.mark.parametrize("num", [1, 2])
def test_gradients_match_finite_differences(num: int):
    inputs = (random_rows(3, 4, seed=1).requires_grad_(), tuples(3, num, 4).requires_grad_(), double(1.3))
    assert gradcheck(lambda a, o, s: volume_partitions(a, o, torch.arange(3), s), inputs)


def test_the_volume_of_two_unit_rows_is_the_sine_of_their_angle_and_of_three_that_of_a_box():
    angle = 0.3
    pair = torch.tensor([[[1.0, 0.0], [math.cos(angle), math.sin(angle)]]], dtype=torch.float64)
    assert gram_volume(pair, eps=0.0).item() == pytest.approx(math.sin(angle), abs=1e-12)
    box = torch.diag(torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64))
    assert gram_volume(box.unsqueeze(0), eps=0.0).item() == pytest.approx(24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dependent_embeddings_have_the_least_volume_and_bounded_gradients(dtype: torch.dtype):
    x = random_rows(4, 6).to(dtype)
    x = x / x.norm(dim=1, keepdim=True)
    anchors, others = x.clone().requires_grad_(), torch.stack([x, x, x], dim=1).requires_grad_()
    _, _, own = volume_partitions(anchors, others, torch.arange(4), torch.tensor(1.0, dtype=dtype))
    torch.testing.assert_close(own, own.new_full((4,), -math.sqrt(volume.EPS)), rtol=0, atol=2e-4)
    for grad in torch.autograd.grad(own.sum(), (anchors, others)):
        assert grad.abs().max().item() <= 1 / math.sqrt(volume.EPS)


def test_a_determinant_rounded_below_zero_is_zero():
    assert volume._root(torch.tensor([-1e-8]), 1e-6).item() == pytest.approx(1e-3)
