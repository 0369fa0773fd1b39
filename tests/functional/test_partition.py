"""Values and gradients of the log partitions against all logits at once, whatever is masked, tiled or kept."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.functional import (
    PairMask,
    log_partition,
    log_partitions,
    paired_log_partitions,
    self_log_partition,
)
from tests.functional.dense import (
    KEYS,
    MASKS,
    POSITIVES,
    QUERIES,
    QUERY_IDS,
    SOME_QUERIES,
    close,
    dense_log_partitions,
    weighted,
)
from tests.functional.rows import double, unit_rows


ALL, SOME, NONE = 2**28, 300, 0  # of the tiles of 4 x 4 doubles, 128 bytes each, 300 bytes keep two
ONE_ID = torch.zeros_like(QUERY_IDS)
SYMMETRIC = {
    "none": PairMask(),
    "rows": PairMask(queries=SOME_QUERIES, keys=SOME_QUERIES),
    "ids": PairMask(query_ids=QUERY_IDS, key_ids=QUERY_IDS),
    "rows and ids": PairMask(queries=SOME_QUERIES, keys=SOME_QUERIES, query_ids=QUERY_IDS, key_ids=QUERY_IDS),
    "one id": PairMask(query_ids=ONE_ID, key_ids=ONE_ID),
}

under_every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
under_symmetric_masks = pytest.mark.parametrize("mask", SYMMETRIC.values(), ids=SYMMETRIC.keys())
keeping = pytest.mark.parametrize("keep_bytes", [ALL, SOME, NONE], ids=["keep all", "keep some", "keep none"])
# At the second no exponential fits, so that every sum has its own maximum.
at_scales = pytest.mark.parametrize("scale", [3.0, 3000.0], ids=["bounded", "unbounded"])


def arguments(scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    return unit_rows(QUERIES, 4).requires_grad_(), unit_rows(KEYS, 4, seed=1).requires_grad_(), double(scale)


def grads(value: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)


@under_every_mask
@keeping
@at_scales
def test_one_direction_matches_all_logits(mask: PairMask, keep_bytes: int, scale: float, tile: int):
    inputs = arguments(scale)
    actual = log_partition(*inputs, mask=mask, keep_bytes=keep_bytes)
    expected, _ = dense_log_partitions(*inputs, mask)
    close(actual, expected)
    close(grads(weighted([actual]), inputs), grads(weighted([expected]), inputs))


@under_every_mask
@keeping
@at_scales
def test_both_directions_match_all_logits(mask: PairMask, keep_bytes: int, scale: float, tile: int):
    inputs = arguments(scale)
    actual = log_partitions(*inputs, mask=mask, keep_bytes=keep_bytes)
    expected = dense_log_partitions(*inputs, mask)
    close(actual, expected)
    close(grads(weighted(actual), inputs), grads(weighted(expected), inputs))


@under_symmetric_masks
@keeping
@at_scales
def test_rows_among_themselves_match_all_logits(mask: PairMask, keep_bytes: int, scale: float, tile: int):
    x, _, scale = arguments(scale)
    actual = self_log_partition(x, scale, mask=mask, keep_bytes=keep_bytes)
    expected, _ = dense_log_partitions(x, x, scale, replace(mask, skip=torch.arange(QUERIES)))
    close(actual, expected)
    close(grads(weighted([actual]), (x, scale)), grads(weighted([expected]), (x, scale)))


@keeping
@at_scales
def test_rows_among_themselves_cost_half_but_mean_the_same(keep_bytes: int, scale: float, tile: int):
    x, _, scale = arguments(scale)
    actual = self_log_partition(x, scale, keep_bytes=keep_bytes)
    expected = log_partition(x, x, scale, mask=PairMask(skip=torch.arange(QUERIES)))
    close(actual, expected)
    close(grads(weighted([actual]), (x, scale)), grads(weighted([expected]), (x, scale)))


@under_every_mask
@pytest.mark.parametrize("hardness", [-1.0, 2.0, 2000.0])
def test_hardness_weights_keys_but_gets_no_gradient(mask: PairMask, hardness: float, tile: int):
    inputs = arguments()
    actual = log_partition(*inputs, mask=mask, hardness=hardness, keep_bytes=SOME)
    expected, _ = dense_log_partitions(*inputs, mask, hardness)
    close(actual, expected)
    close(grads(weighted([actual]), inputs), grads(weighted([expected]), inputs))


@pytest.mark.parametrize("direction", [0, 1])
@at_scales
def test_one_of_both_directions_may_be_used_alone(direction: int, scale: float, small_tiles: int):
    inputs = arguments(scale)
    actual, expected = log_partitions(*inputs)[direction], dense_log_partitions(*inputs)[direction]
    close(grads(weighted([actual]), inputs), grads(weighted([expected]), inputs))


@pytest.mark.parametrize("wanted", [0, 1, 2], ids=["queries", "keys", "scale"])
@keeping
def test_one_input_alone_may_want_a_gradient(wanted: int, keep_bytes: int, small_tiles: int):
    inputs = [z.requires_grad_(place == wanted) for place, z in enumerate(z.detach() for z in arguments())]
    actual = log_partitions(*inputs, keep_bytes=keep_bytes)
    (ours,) = torch.autograd.grad(weighted(actual), inputs[wanted])
    (theirs,) = torch.autograd.grad(weighted(dense_log_partitions(*inputs)), inputs[wanted])
    close(ours, theirs)


@under_every_mask
def test_gradients_match_finite_differences(mask: PairMask, small_tiles: int):
    inputs = arguments()

    def value(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return weighted(log_partitions(x, y, scale, mask=mask, keep_bytes=SOME))

    assert gradcheck(value, inputs)
    assert gradcheck(lambda x, scale: weighted([self_log_partition(x, scale)]), (inputs[0], inputs[2]))


def test_positives_in_a_mask_change_nothing_in_full_precision():
    inputs = arguments()
    plain, told = (log_partitions(*inputs, mask=mask) for mask in (None, PairMask(positives=POSITIVES)))
    close(told, plain, 0)
    close(grads(weighted(told), inputs), grads(weighted(plain), inputs), 0)


@keeping
def test_paired_log_partitions_are_both_and_the_logits_of_pairs(keep_bytes: int, tile: int):
    x, y, scale = unit_rows(7, 4).requires_grad_(), unit_rows(7, 4, seed=1).requires_grad_(), double(3.0)
    actual = paired_log_partitions(x, y, scale, keep_bytes=keep_bytes)
    expected = (*dense_log_partitions(x, y, scale), scale * (x * y).sum(dim=1))
    close(actual, expected)
    close(grads(weighted(actual), (x, y, scale)), grads(weighted(expected), (x, y, scale)))
