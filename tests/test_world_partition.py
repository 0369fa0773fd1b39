"""Sums over the rows of all processes against one process that holds them all."""

from dataclasses import fields

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hf_contrastive.distributed import gather_rows, rank, world_size
from hf_contrastive.functional import PairMask, paired_log_partitions, self_log_partition
from hf_contrastive.functional.tiles import Plan
from hf_contrastive.testing import run_distributed
from hf_contrastive.world_partition import Shard, sharded_log_partitions, sharded_self_log_partition
from tests.functional.dense import chosen, close, dense_log_partitions, relative_error
from tests.functional.rows import double, random_rows, unit_rows


# Wide rows, so that a collective of them could not pass for one of a few numbers per row.
ROWS, WIDTH = 8, 40
EVERY = torch.arange(ROWS)
PRESENT = chosen([0, 1, 2, 4, 7], ROWS)
IDS = torch.tensor([0, 1, 0, 3, 4, 1, 6, 0])
MASKS = {
    "none": PairMask(),
    "presence": PairMask(queries=PRESENT, keys=PRESENT),
    "ids but positives": PairMask(query_ids=IDS, key_ids=IDS, positives=EVERY),
    "without positives": PairMask(skip=EVERY),
    "presence, ids, without positives": PairMask(
        queries=PRESENT, keys=PRESENT, query_ids=IDS, key_ids=IDS, skip=EVERY
    ),
    "nobody": PairMask(queries=chosen([], ROWS), keys=chosen([], ROWS)),
}


def of_rows(mask: PairMask, rows: slice) -> PairMask:
    """What the process with these rows says of the pairs of all."""
    given = {field.name: getattr(mask, field.name) for field in fields(mask) if field.init}
    cut = {name: None if z is None else z[rows] for name, z in given.items()}
    return PairMask(**cut | {"keys": mask.keys, "key_ids": mask.key_ids})


class CountingGather:
    """Stacks the rows of all processes and remembers how many numbers each process sent."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(x.numel())
        assert not x.requires_grad
        return gather_rows(x) if world_size() > 1 else x.detach().clone()


def my_rows() -> slice:
    b = ROWS // world_size()
    return slice(rank() * b, rank() * b + b)


def my_shard() -> tuple[slice, CountingGather, Shard]:
    rows, gather = my_rows(), CountingGather()
    return rows, gather, Shard(gather, rows)


def summed(x: Tensor) -> Tensor:
    x = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def dot(weights: Tensor, values: Tensor) -> Tensor:
    """A sum that takes no notice of sums without pairs, whose size would drown the others."""
    return (weights * values.masked_fill(values.detach() < -1e30, 0)).sum()


# Each row of every sum has a weight of its own, so each process another gradient; one row of each has none.
ROW_WEIGHTS, COLUMN_WEIGHTS = (random_rows(1, ROWS, seed)[0].index_fill(0, torch.tensor([3]), 0) for seed in (7, 8))


def check_log_partitions(mask: PairMask, scale_value: float, keep_bytes: int, tile: int) -> None:
    x, y = (unit_rows(ROWS, WIDTH, seed).requires_grad_() for seed in (0, 1))
    scale = double(scale_value)
    expected = dense_log_partitions(x, y, scale, mask)
    value = dot(ROW_WEIGHTS, expected[0]) + dot(COLUMN_WEIGHTS, expected[1])
    dx, dy, dscale = torch.autograd.grad(value, (x, y, scale))

    rows, gather, shard = my_shard()
    plan = Plan(mask=of_rows(mask, rows), keep_bytes=keep_bytes, tile=tile)
    mine = [z.detach()[rows].clone().requires_grad_() for z in (x, y)]
    own_scale = double(scale_value)
    *actual, paired = sharded_log_partitions(*mine, x, y, own_scale, shard, plan)
    close(actual, [z[rows] for z in expected])
    close(paired, own_scale * (mine[0] * mine[1]).sum(dim=1))
    assert gather.sizes == [ROWS]  # this process's part of the sum over every column

    share = dot(ROW_WEIGHTS[rows], actual[0]) + dot(COLUMN_WEIGHTS[rows], actual[1])
    inputs = (*mine, own_scale)
    gradients = torch.autograd.grad(share, inputs, retain_graph=True)
    assert gather.sizes == [ROWS, 3 * len(mine[0])]  # two gradients and a sum for each row, and no row itself
    close(gradients[:2], (dx[rows], dy[rows]))
    close(summed(gradients[2]), dscale)
    of_paired = torch.autograd.grad(dot(ROW_WEIGHTS[rows], paired), (*mine, own_scale), retain_graph=True)
    by_hand = torch.autograd.grad(
        dot(ROW_WEIGHTS[rows], own_scale * (mine[0] * mine[1]).sum(dim=1)), (*mine, own_scale)
    )
    close(of_paired, by_hand)
    again = torch.autograd.grad(share, inputs)
    assert all(a.equal(b) for a, b in zip(gradients, again, strict=True))


def check_self_log_partition(mask: PairMask, scale_value: float, keep_bytes: int, tile: int) -> None:
    mask = PairMask(queries=mask.queries, keys=mask.keys, query_ids=mask.query_ids, key_ids=mask.key_ids, skip=EVERY)
    x, scale = unit_rows(ROWS, WIDTH).requires_grad_(), double(scale_value)
    expected, _ = dense_log_partitions(x, x, scale, mask)
    dx, dscale = torch.autograd.grad(dot(ROW_WEIGHTS, expected), (x, scale))

    rows, gather, shard = my_shard()
    plan = Plan(mask=of_rows(mask, rows), keep_bytes=keep_bytes, tile=tile)
    mine, own_scale = x.detach()[rows].clone().requires_grad_(), double(scale_value)
    actual = sharded_self_log_partition(mine, x, own_scale, shard, plan)
    close(actual, expected[rows])
    assert gather.sizes == []
    gradients = torch.autograd.grad(dot(ROW_WEIGHTS[rows], actual), (mine, own_scale))
    assert gather.sizes == [2 * len(mine)]
    close(gradients[0], dx[rows])
    close(summed(gradients[1]), dscale)


def check_autocast() -> None:
    """Values stay, gradients of all but positives are rounded, as in one process."""
    x, y = (unit_rows(ROWS, WIDTH, seed).float() for seed in (0, 1))
    rows, _, shard = my_shard()
    scale = torch.tensor(30.0)
    for kind, mask in (("both", PairMask(positives=EVERY)), ("self", PairMask(skip=EVERY))):
        plan = Plan(mask=of_rows(mask, rows))
        results = []
        for half in (False, True):
            mine = [z[rows].clone().requires_grad_() for z in (x, y)]
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                if kind == "both":
                    sums = sharded_log_partitions(*mine, x, y, scale, shard, plan)[:2]
                else:
                    sums = [sharded_self_log_partition(mine[0], x, scale, shard, plan)]
            value = sum(dot(ROW_WEIGHTS[rows].float(), z) for z in sums)
            results.append((value.item(), torch.autograd.grad(value, mine[: len(sums)])))
        assert results[0][0] == results[1][0]
        assert 1e-5 < relative_error(results[1][1], results[0][1]) < 4e-3


def check_second_derivatives() -> None:
    x, y = unit_rows(ROWS, WIDTH), unit_rows(ROWS, WIDTH, 1)
    rows, _, shard = my_shard()
    for kind in ("both", "self"):
        mine = x[rows].clone().requires_grad_()
        plan = Plan(mask=of_rows(PairMask(skip=EVERY), rows))
        if kind == "both":
            value = sharded_log_partitions(mine, y[rows], x, y, torch.tensor(3.0).double(), shard, plan)[0]
        else:
            value = sharded_self_log_partition(mine, x, torch.tensor(3.0).double(), shard, plan)
        (gradient,) = torch.autograd.grad(value.sum(), mine, create_graph=True)
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            gradient.sum().backward()


def check_everything() -> None:
    for name, mask in MASKS.items():
        for scale in (3.0, 3000.0):
            for keep_bytes, tile in ((2**28, 1024), (2**28, 3), (150, 3), (0, 3)):
                try:
                    check_log_partitions(mask, scale, keep_bytes, tile)
                    check_self_log_partition(mask, scale, keep_bytes, tile)
                except AssertionError as error:
                    where = f"mask {name}, scale {scale}, keep_bytes {keep_bytes}, tile {tile}, rank {rank()}"
                    raise AssertionError(f"{where}: {error}") from error
    check_autocast()
    check_second_derivatives()


def test_a_shard_of_everything_is_everything():
    check_everything()


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [2, 4])
def test_several_processes_have_the_sums_and_gradients_of_one(num_processes: int):
    run_distributed(check_everything, num_processes=num_processes)


def test_one_shard_is_the_function_without_shards():
    x, y, scale = unit_rows(ROWS, WIDTH), unit_rows(ROWS, WIDTH, 1), torch.tensor(3.0).double()
    _, _, shard = my_shard()
    close(sharded_log_partitions(x, y, x, y, scale, shard, Plan()), paired_log_partitions(x, y, scale), 1e-14)
    own = sharded_self_log_partition(x, x, scale, shard, Plan(mask=PairMask(skip=EVERY)))
    close(own, self_log_partition(x, scale), 1e-14)


def test_a_mask_that_is_not_the_same_in_both_directions_is_refused():
    x, scale = unit_rows(ROWS, WIDTH), torch.tensor(3.0).double()
    plan = Plan(mask=PairMask(ceiling=torch.zeros(ROWS).double()))
    with pytest.raises(ValueError, match=r"must leave out the same pairs in both, so have no ceiling\.$"):
        sharded_log_partitions(x, x, x, x, scale, my_shard()[2], plan)
