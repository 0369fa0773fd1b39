"""Log partitions of few rows, of none, of left-out, equal and broken ones, at every temperature."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hf_contrastive.functional import PairMask, log_partition, log_partitions, self_log_partition
from hf_contrastive.functional.tiles import Kept, Packed
from tests.functional.dense import (
    KEYS,
    MASKS,
    QUERIES,
    QUERY_IDS,
    SOME_QUERIES,
    chosen,
    close,
    dense_log_partitions,
    weighted,
)
from tests.functional.rows import double, unit_rows
from tests.functional.test_partition import arguments, at_scales, grads, keeping


def test_a_scale_may_be_a_plain_number_or_of_another_precision():
    x, y, scale = arguments()
    expected = log_partition(x, y, scale)
    for other in (3.0, 3, torch.tensor(3.0)):
        close(log_partition(x, y, other), expected)
    single = torch.tensor(3.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_partition(x, y, single).sum(), single)
    assert gradient.dtype == torch.float32


@pytest.mark.parametrize("n", [1, 2])
@at_scales
def test_one_or_two_rows_are_enough(n: int, scale: float, tile: int):
    x, y, scale = unit_rows(n, 4).requires_grad_(), unit_rows(n, 4, seed=1).requires_grad_(), double(scale)
    actual, expected = log_partitions(x, y, scale), dense_log_partitions(x, y, scale)
    close(actual, expected)
    close(grads(weighted(actual), (x, y, scale)), grads(weighted(expected), (x, y, scale)))
    alone = self_log_partition(x, scale)
    close(alone, dense_log_partitions(x, x, scale, PairMask(skip=torch.arange(n)))[0])
    # One row has no other, two have each other.
    assert alone.lt(-1e30).tolist() == [n == 1] * n
    assert grads(alone.sum(), (x, scale))[0].isfinite().all()


@pytest.mark.parametrize(("q", "k"), [(0, 3), (3, 0), (0, 0)])
@at_scales
def test_empty_sides_give_empty_sums_and_no_gradient(q: int, k: int, scale: float):
    x, y, scale = unit_rows(q, 4).requires_grad_(), unit_rows(k, 4).requires_grad_(), double(scale)
    rows, columns = log_partitions(x, y, scale)
    assert rows.tolist() == [torch.finfo(torch.float64).min] * q
    assert columns.tolist() == [torch.finfo(torch.float64).min] * k
    for gradient, z in zip(grads(rows.sum() + columns.sum(), (x, y, scale)), (x, y, scale), strict=True):
        assert gradient.shape == z.shape
        assert gradient.eq(0).all()
    assert self_log_partition(unit_rows(0, 4), scale).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@keeping
@at_scales
def test_a_query_without_keys_is_very_negative_and_has_no_gradient(
    dtype: torch.dtype, keep_bytes: int, scale: float, tile: int
):
    inputs = tuple(z.detach().to(dtype).requires_grad_() for z in arguments(scale))
    left = PairMask(keys=chosen([2], KEYS), skip=torch.tensor([2, 2, 0, 1, 2, 3, 4]))
    rows, columns = log_partitions(*inputs, mask=left, keep_bytes=keep_bytes)
    lost = [0, 1, 4]  # these skip the only key there is
    assert rows.isfinite().all()
    assert columns.isfinite().all()
    assert rows[lost].eq(torch.finfo(dtype).min).all()
    assert columns[torch.arange(KEYS) != 2].eq(torch.finfo(dtype).min).all()
    dx, dy, _ = grads(rows.sum() + 3 * columns.sum(), inputs)
    assert dx[lost].eq(0).all()
    assert dy[torch.arange(KEYS) != 2].eq(0).all()
    assert dx[[2, 3, 5, 6]].ne(0).any(dim=1).all()


def test_equal_keys_add_the_log_of_their_number(small_tiles: int):
    x, y, _ = arguments()
    doubled = torch.cat([y, y, y])
    close(log_partition(x, doubled, 3.0), log_partition(x, y, 3.0) + torch.tensor(3.0, dtype=torch.float64).log())
    equal = unit_rows(1, 4).expand(QUERIES, 4)
    close(self_log_partition(equal, 3.0), torch.full((QUERIES,), 3.0).double() + torch.tensor(6.0).double().log())


@pytest.mark.parametrize("where", ["query", "key"])
@keeping
def test_what_is_not_a_number_is_not_hidden(where: str, keep_bytes: int, small_tiles: int):
    inputs = tuple(z.detach().clone() for z in arguments())
    inputs[0 if where == "query" else 1][5, 1] = torch.nan
    inputs = tuple(z.requires_grad_() for z in inputs)
    rows, columns = log_partitions(*inputs, keep_bytes=keep_bytes)
    # It spreads to every sum that it is in, and to no other.
    rows_hit = torch.arange(QUERIES) == 5 if where == "query" else torch.ones(QUERIES, dtype=torch.bool)
    columns_hit = torch.arange(KEYS) == 5 if where == "key" else torch.ones(KEYS, dtype=torch.bool)
    assert rows.isnan().equal(rows_hit)
    assert columns.isnan().equal(columns_hit)
    assert all(
        gradient.isnan().any() for gradient in grads(weighted([rows, columns]).nan_to_num() + rows.sum(), inputs)
    )
    if where == "query":
        assert self_log_partition(inputs[0], 3.0).isnan().all()


def test_a_left_out_row_may_hold_anything_for_the_value(small_tiles: int):
    x, y, scale = (z.detach().clone() for z in arguments())
    expected, _ = dense_log_partitions(x, y, scale, MASKS["keys"])
    y[~MASKS["keys"].keys] = torch.nan
    close(log_partition(x, y, scale, mask=MASKS["keys"]), expected)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(QUERIES)), scale=st.sampled_from([0.1, 10.0, 3000.0]))
def test_the_order_of_rows_and_keys_does_not_matter(order: list[int], scale: float):
    x, y, _ = arguments()
    rows, columns = log_partitions(x, y, scale)
    shuffled, moved = log_partitions(x[order], y.flip(0), scale)
    close(shuffled, rows[order], 1e-12)
    close(moved, columns.flip(0), 1e-12)
    close(self_log_partition(x[order], scale), self_log_partition(x, scale)[order], 1e-12)


@settings(max_examples=50, deadline=None)
@given(log_temperature=st.floats(-3, 1), seed=st.integers(0, 1000), single=st.booleans(), length=st.floats(0.1, 10))
def test_every_temperature_gives_the_exact_sum(log_temperature: float, seed: int, single: bool, length: float):
    x, y = length * unit_rows(6, 3, seed), length * unit_rows(5, 3, seed + 1)
    scale = 10**-log_temperature
    dtype, tolerance = (torch.float32, 1e-6) if single else (torch.float64, 1e-12)
    inputs = tuple(z.to(dtype).requires_grad_() for z in (x, y, torch.tensor(scale)))
    exact = tuple(z.detach().double().requires_grad_() for z in inputs)
    actual, expected = log_partitions(*inputs), dense_log_partitions(*exact)
    # Rounding is relative to the largest logit, not to a sum where logits cancel.
    largest = max(1.0, scale * length**2)
    close([z.double() / largest for z in actual], [z / largest for z in expected], tolerance)
    for ours in grads(weighted(actual), inputs):
        assert ours.isfinite().all()


def test_a_mask_that_is_not_symmetric_is_refused():
    x, other = unit_rows(QUERIES, 4), SOME_QUERIES.clone()
    for mask in (
        PairMask(queries=SOME_QUERIES),
        PairMask(queries=SOME_QUERIES, keys=other),
        PairMask(query_ids=QUERY_IDS, key_ids=QUERY_IDS.clone()),
        PairMask(ceiling=torch.zeros(QUERIES, dtype=torch.float64)),
    ):
        with pytest.raises(ValueError, match=r"The `mask` of rows among themselves must be symmetric: one tensor for"):
            self_log_partition(x, 1.0, mask=mask)


def test_a_scale_may_have_the_shape_that_models_keep_it_in():
    x, y, _ = arguments()
    scale = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    value = log_partition(x, y, scale)
    close(value, log_partition(x, y, 3.0))
    (gradient,) = torch.autograd.grad(value.sum(), scale)
    assert gradient.shape == (1,)


def test_a_scale_of_several_numbers_is_refused():
    x, y, _ = arguments()
    with pytest.raises(ValueError, match=r"^`scale` must be a single number, but got shape \[2\]\.$"):
        log_partition(x, y, torch.ones(2))


@pytest.mark.parametrize("name", ["queries", "keys", "skip", "ceiling", "positives"])
def test_a_mask_of_the_wrong_length_is_named(name: str):
    x, y, _ = arguments()
    kind = torch.bool if name in ("queries", "keys") else torch.float64 if name == "ceiling" else torch.long
    with pytest.raises(ValueError, match=rf"^`{name}` of the mask must have shape \[\d+\], but got \[1\]\.$"):
        log_partition(x, y, 1.0, mask=PairMask(**{name: torch.ones(1, dtype=kind)}))


@pytest.mark.parametrize("name", ["skip", "positives"])
def test_rows_among_themselves_take_no_other_keys_to_skip(name: str):
    x = unit_rows(4, 3)
    with pytest.raises(ValueError, match="takes no `skip` and no `positives`"):
        self_log_partition(x, 1.0, mask=PairMask(**{name: torch.arange(4)}))


def test_kept_tiles_go_with_the_backward_pass(monkeypatch: pytest.MonkeyPatch, no_dense_way: None):
    tiles = []
    pack = Kept.pack

    def spy(kept: Kept) -> tuple[Packed, list[Tensor]]:
        tiles.extend(weakref.ref(tile) for tile in kept.tiles.values())
        return pack(kept)

    monkeypatch.setattr(Kept, "pack", spy)
    x, y, scale = arguments()
    loss = log_partition(x, y, scale).sum()
    assert all(tile() is not None for tile in tiles)
    assert tiles
    loss.backward()
    assert all(tile() is None for tile in tiles)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
