"""Log partitions of this process's rows among the rows of all processes, with exact gradients and without a collective
of the embeddings' size for them.

Every process has all embeddings, gathered once and without a graph. It computes the sums of its own rows, exchanges
vectors as long as the world's batch, and from these takes the whole gradient of its own rows: what its rows do to the
sums of others included. The backward pass exchanges vectors as well, so all processes must run it. Nothing is multiplied by the number of processes: the mean over processes of values and of
parameter gradients, which DDP takes, is that of one process with all rows.

Dimension key: b = rows of this process, B = rows of all processes, d = embedding width.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.partition import autocast_to_bfloat16, once_differentiable
from hf_contrastive.functional.tiles import (
    Kept,
    Plan,
    add_paired_,
    gradient_products,
    inner_product,
    is_bounded,
    log_sums,
    paired_logits,
)


# Rows of all processes in rank order, without a graph.
Gather: TypeAlias = Callable[[Tensor], Tensor]


class Shard(NamedTuple):
    """This process's rows of the world's.

    Args:
        gather: Stacks the rows of all processes.
        rows: Which rows of the world this process has.
    """

    gather: Gather
    rows: slice


def sharded_log_partitions(
    x: Float[Tensor, "b d"],
    y: Float[Tensor, "b d"],
    world_x: Float[Tensor, "B d"],
    world_y: Float[Tensor, "B d"],
    scale: Float[Tensor, ""],
    shard: Shard,
    plan: Plan,
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
    r"""$\log \sum_j e^{s\, x_i \cdot y_j}$ of this process's x and $\log \sum_i e^{s\, x_i \cdot y_j}$ of its y, over the
    world's partners, and their logits with each other.

    Args:
        x: This process's rows of the first set.
        y: This process's rows of the second set.
        world_x: All rows of the first set.
        world_y: All rows of the second set.
        scale: Inverse temperature, already exponentiated.
        shard: How processes share the work.
        plan: Plan of `x` against `world_y`. Its mask must leave out the same pairs when read the other way.
    """
    if plan.mask.ceiling is not None:
        raise ValueError("The `mask` of both directions must leave out the same pairs in both, so have no ceiling.")
    plan = replace(plan, columns=True, half_gradients=autocast_to_bfloat16())
    fixed = (world_x.detach(), world_y.detach(), plan, shard, torch.is_grad_enabled())
    with torch.autocast(x.device.type, enabled=False):
        return _ShardedLogPartitions.apply(x, y, scale, *fixed)  # type: ignore[no-untyped-call]


def sharded_self_log_partition(
    x: Float[Tensor, "b d"], world_x: Float[Tensor, "B d"], scale: Float[Tensor, ""], shard: Shard, plan: Plan
) -> Float[Tensor, "b"]:
    """Log partition of each of this process's rows among the world's rows of the same kind, under a symmetric plan."""
    plan = replace(plan, columns=False, half_gradients=autocast_to_bfloat16())
    with_gradient = torch.is_grad_enabled()
    with torch.autocast(x.device.type, enabled=False):
        return _ShardedSelf.apply(x, scale, world_x.detach(), plan, shard, with_gradient)  # type: ignore[no-untyped-call]


class _Part(NamedTuple):
    """Some of the world's rows, the plan of this process's rows against them, and the tiles kept of that."""

    rows: slice
    is_own: bool
    plan: Plan
    kept: Kept


def _parts(shard: Shard, size: int, plan: Plan) -> Iterator[_Part]:
    """This process's rows of the world, then those before and those after.

    Tiles among a process's own rows tell of both their sides, so they are computed once and kept first.
    """
    own = shard.rows
    for rows in (own, slice(0, own.start), slice(own.stop, size)):
        if rows.stop > rows.start:
            yield _Part(rows, rows is own, replace(plan, mask=plan.mask.columns(rows)), Kept())


def _sum_parts(
    x: Tensor, world: Tensor, scale: Tensor, plan: Plan, shard: Shard, with_gradient: bool
) -> tuple[Tensor, Tensor, list[_Part]]:
    """Log sums of x over the world, those of the world over x if planned, and the parts for the backward pass."""
    rows, columns, parts = [], x.new_empty(len(world) if plan.columns else 0), []
    budget = plan.keep_bytes
    for part in _parts(shard, len(world), plan):
        planned = replace(part.plan, keep_bytes=budget)
        sums, column_sums = log_sums(x, world[part.rows], scale, planned, part.kept if with_gradient else None)
        budget -= sum(tile.nbytes for tile in part.kept.tiles.values())
        rows.append(sums)
        parts.append(part)
        if plan.columns:
            columns[part.rows] = column_sums
    return torch.stack(rows).logsumexp(0).clamp(min=torch.finfo(x.dtype).min), columns, parts


def _unpack(parts: list[_Part], tiles: list[Tensor]) -> Iterator[tuple[_Part, Kept]]:
    """Parts with their tiles, which autograd has kept."""
    left = iter(tiles)
    for part in parts:
        yield part, part.kept.unpack(list(itertools.islice(left, len(part.kept.places))))


class _ShardedLogPartitions(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        scale: Tensor,
        world_x: Tensor,
        world_y: Tensor,
        plan: Plan,
        shard: Shard,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, part, ctx.parts = _sum_parts(x, world_y, scale, plan, shard, with_gradient)
        # Each process has summed its own rows of every column.
        columns = shard.gather(part.unsqueeze(0)).logsumexp(0).clamp(min=torch.finfo(part.dtype).min)
        tiles = [part.kept.pack() for part in ctx.parts]
        ctx.save_for_backward(x, y, scale, world_x, world_y, rows, columns, *itertools.chain(*tiles))
        ctx.shard = shard
        return rows, columns[shard.rows].clone(), paired_logits(x, y, scale)

    @staticmethod
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor, paired_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, world_x, world_y, rows, columns, *tiles = ctx.saved_tensors
        own = ctx.shard.rows
        with torch.no_grad():
            world = ctx.shard.gather(torch.stack([row_grad, column_grad, rows], dim=1))
            row_grads, column_grads, row_sums = world.unbind(1)
            dx, dy = torch.zeros_like(x), torch.zeros_like(y)
            for part, kept in _unpack(ctx.parts, tiles):
                there = part.rows
                of_x, of_y = gradient_products(
                    x,
                    world_y[there],
                    scale,
                    part.plan,
                    kept,
                    row_grad=row_grad,
                    row_sums=rows,
                    column_grad=column_grads[there],
                    column_sums=columns[there],
                    need_y=part.is_own,
                )
                if of_y is None:
                    of_y, _ = gradient_products(
                        y,
                        world_x[there],
                        scale,
                        part.plan,
                        Kept(bounded=is_bounded(y, world_x[there], scale)),
                        row_grad=column_grad,
                        row_sums=columns[own],
                        column_grad=row_grads[there],
                        column_sums=row_sums[there],
                        need_y=False,
                    )
                dx += of_x
                dy += of_y
            add_paired_(dx, dy, x, y, paired_grad)
            dscale = inner_product(x, dx)
            grads = dx.mul_(scale), dy.mul_(scale), dscale
        return (*(once_differentiable(grad, x, y, scale) for grad in grads), *[None] * 5)


class _ShardedSelf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, world_x: Tensor, plan: Plan, shard: Shard, with_gradient: bool
    ) -> Tensor:
        rows, _, ctx.parts = _sum_parts(x, world_x, scale, plan, shard, with_gradient)
        tiles = [part.kept.pack() for part in ctx.parts]
        ctx.save_for_backward(x, scale, world_x, rows, *itertools.chain(*tiles))
        ctx.shard = shard
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, world_x, rows, *tiles = ctx.saved_tensors
        with torch.no_grad():
            grads, sums = ctx.shard.gather(torch.stack([grad, rows], dim=1)).unbind(1)
            dx = torch.zeros_like(x)
            for part, kept in _unpack(ctx.parts, tiles):
                of_x, _ = gradient_products(
                    x,
                    world_x[part.rows],
                    scale,
                    part.plan,
                    kept,
                    row_grad=grad,
                    row_sums=rows,
                    column_grad=grads[part.rows],
                    column_sums=sums[part.rows],
                    need_y=False,
                )
                dx += of_x
            # Each pair's gradient stands at both of its places.
            dscale = inner_product(x, dx) / 2
            result = dx.mul_(scale), dscale
        return (*(once_differentiable(z, x, scale) for z in result), *[None] * 4)


def gather_with_gradient(values: Float[Tensor, "b *rest"], gather: Gather, rank: int) -> Float[Tensor, "B *rest"]:
    """Values of every process in rank order. The gradient of each is the sum over processes, as it is for embeddings.

    The backward pass is a collective: what is made of the result must have one graph on all processes.

    Args:
        values: This process's values, of one shape on every process.
        gather: Stacks the rows of all processes, without a graph.
        rank: Index of this process.
    """
    return _Gather.apply(values, gather, rank)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, gather: Gather, rank: int) -> Tensor:
        ctx.gather, ctx.rows = gather, slice(rank * len(values), (rank + 1) * len(values))
        return gather(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gather(grad.unsqueeze(0)).sum(dim=0)[ctx.rows], None, None
