"""The way of few pairs: the same numbers as tiles, taken where it may be and nowhere else."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from hf_contrastive.functional import PairMask, dense, paired_log_partitions, self_log_partition
from hf_contrastive.functional.dense import dense_log_sums, is_small
from hf_contrastive.functional.tiles import Plan
from tests.functional.rows import double, unit_rows


X, Y, SCALE = unit_rows(7, 4), unit_rows(7, 4, seed=1), double(3.0).detach()


def test_sums_are_the_definition():
    rows, columns, paired = dense_log_sums(X, Y, SCALE, Plan(columns=True, paired=True))
    logits = [[float(SCALE * sum(a * b for a, b in zip(x, y, strict=True))) for y in Y] for x in X]
    torch.testing.assert_close(rows, torch.tensor(logits, dtype=torch.double).exp().sum(1).log(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        columns, torch.tensor(logits, dtype=torch.double).exp().sum(0).log(), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(paired.tolist(), [logits[i][i] for i in range(7)], rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [3.0, 3000.0])
def test_tiles_give_the_same_values_and_gradients(scale: float, monkeypatch: pytest.MonkeyPatch):
    def both() -> list[torch.Tensor]:
        inputs = [z.clone().requires_grad_() for z in (X, Y, double(scale).detach())]
        sums = *paired_log_partitions(*inputs), self_log_partition(inputs[0], inputs[2])
        value = sum((k + 1) * z.sum() for k, z in enumerate(sums))
        return [*sums, *torch.autograd.grad(value, inputs)]

    few = both()
    monkeypatch.setattr(dense, "FEW_PAIRS", 0)
    for ours, tiled in zip(few, both(), strict=True):
        torch.testing.assert_close(ours, tiled, rtol=1e-9, atol=1e-9)


def test_few_pairs_can_be_differentiated_any_number_of_times():
    inputs = [z.clone().requires_grad_() for z in (X, Y, SCALE)]
    assert gradcheck(paired_log_partitions, inputs)
    assert gradgradcheck(paired_log_partitions, inputs)
    assert gradgradcheck(self_log_partition, inputs[1:])


def test_half_precision_rows_that_are_compared_with_themselves_are_converted_once():
    half = X.bfloat16().requires_grad_()
    self_log_partition(half, 30.0).sum().backward()
    exact = half.detach().double().requires_grad_()
    self_log_partition(exact, 30.0).sum().backward()
    # One rounding to eight bits, not a sum of two.
    torch.testing.assert_close(half.grad.double(), exact.grad, rtol=2**-8, atol=1e-6)


def test_autocast_regions_have_tiles_whose_gradients_stay_exact():
    assert is_small(X, X, Plan())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_small(X, X, Plan())


@pytest.mark.parametrize(
    ("plan", "small"),
    [
        (Plan(), True),
        (Plan(mask=PairMask(positives=torch.arange(7))), True),
        (Plan(mask=PairMask(skip=torch.arange(7)), symmetric=True), True),
        (Plan(mask=PairMask(skip=torch.arange(7))), False),
        (Plan(mask=PairMask(keys=torch.ones(7, dtype=torch.bool))), False),
        (Plan(mask=PairMask(query_ids=torch.arange(7), key_ids=torch.arange(7))), False),
        (Plan(mask=PairMask(ceiling=torch.ones(7))), False),
        (Plan(hardness=1.0), False),
        (Plan(tile=4), False),
    ],
)
def test_masks_hardness_and_small_tiles_have_tiles(plan: Plan, small: bool):
    assert is_small(X, X, plan) is small


def test_many_pairs_have_tiles_and_a_single_row_has_nobody_to_compare_with():
    assert is_small(torch.ones(128, 2), torch.ones(128, 2), Plan())
    assert not is_small(torch.ones(128, 2), torch.ones(129, 2), Plan())
    assert not is_small(torch.ones(1, 2), torch.ones(1, 2), Plan(symmetric=True))
    assert not is_small(torch.ones(0, 2), torch.ones(4, 2), Plan())
