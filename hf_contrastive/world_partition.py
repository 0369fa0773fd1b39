"""Log partitions of this process's rows among the rows of all processes, with exact gradients and without a collective
of the embeddings' size for them.

Every process has all embeddings, gathered once and without a graph. It computes the sums of its own rows, exchanges
vectors as long as the world's batch, and from these takes the whole gradient of its own rows: what its rows do to the
sums of others included. The backward pass exchanges vectors as well, so all processes must run it. Nothing is
multiplied by the number of processes: the mean over processes of values and of parameter gradients, which DDP takes, is
that of one process with all rows.

Dimension key: b = rows of this process, B = rows of all processes, d = embedding width.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.autograd import autocast_to_bfloat16, once_differentiable
from hf_contrastive.functional.exponentials import floored
from hf_contrastive.functional.log_sums import gradient_products, is_bounded, log_sums
from hf_contrastive.functional.tiles import Kept, Packed, Plan, add_paired_, inner_products


# Stacks the rows of all processes in rank order. The gradient of each row is the sum over processes.
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
    """Some of the world's rows, the plan of this process's rows against them, and what was kept of that."""

    rows: slice
    is_own: bool
    plan: Plan
    packed: Packed


def _sum_parts(
    x: Tensor, world: Tensor, scale: Tensor, plan: Plan, shard: Shard, with_gradient: bool
) -> tuple[Tensor, Tensor, list[_Part], list[Tensor]]:
    """Log sums of x over the world, those of the world over x if planned, and parts and tiles for the backward pass.

    This process's rows of the world come first, then those before and those after: tiles among its own rows tell of
    both their sides, so they are computed once and kept before others.
    """
    own, budget = shard.rows, plan.keep_bytes
    sums, columns = [], x.new_empty(len(world) if plan.columns else 0)
    parts: list[_Part] = []
    kept_tiles: list[Tensor] = []
    for rows in (own, slice(0, own.start), slice(own.stop, len(world))):
        if rows.stop == rows.start:
            continue
        part_plan, kept = replace(plan, mask=plan.mask.columns(rows), keep_bytes=budget), Kept()
        row_sums, column_sums = log_sums(x, world[rows], scale, part_plan, kept if with_gradient else None)
        packed, tiles = kept.pack()
        budget -= sum(tile.nbytes for tile in tiles)
        sums.append(row_sums)
        parts.append(_Part(rows, rows is own, part_plan, packed))
        kept_tiles += tiles
        if plan.columns:
            columns[rows] = column_sums
    return floored(torch.stack(sums).logsumexp(0)), columns, parts, kept_tiles


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
        rows, part, ctx.parts, tiles = _sum_parts(x, world_y, scale, plan, shard, with_gradient)
        # Each process has summed its own rows of every column.
        columns = floored(shard.gather(part.unsqueeze(0)).logsumexp(0))
        ctx.save_for_backward(x, y, scale, world_x, world_y, rows, columns, *tiles)
        ctx.shard = shard
        return rows, columns[shard.rows].clone(), inner_products(x, y) * scale

    @staticmethod
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor, paired_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, world_x, world_y, rows, columns, *tiles = ctx.saved_tensors
        own = ctx.shard.rows
        with torch.no_grad():
            world = ctx.shard.gather(torch.stack([row_grad, column_grad, rows], dim=1))
            row_grads, column_grads, row_sums = world.unbind(1)
            dx, dy, left = torch.zeros_like(x), torch.zeros_like(y), iter(tiles)
            for part in ctx.parts:
                there = part.rows
                of_x, of_y = gradient_products(
                    x,
                    world_y[there],
                    scale,
                    part.plan,
                    part.packed.unpack(left),
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
            dscale = inner_products(x, dx).sum()
            grads = dx.mul_(scale), dy.mul_(scale), dscale
        return (*(once_differentiable(grad, x, y, scale) for grad in grads), *[None] * 5)


class _ShardedSelf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, world_x: Tensor, plan: Plan, shard: Shard, with_gradient: bool
    ) -> Tensor:
        rows, _, ctx.parts, tiles = _sum_parts(x, world_x, scale, plan, shard, with_gradient)
        ctx.save_for_backward(x, scale, world_x, rows, *tiles)
        ctx.shard = shard
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, world_x, rows, *tiles = ctx.saved_tensors
        with torch.no_grad():
            grads, sums = ctx.shard.gather(torch.stack([grad, rows], dim=1)).unbind(1)
            dx, left = torch.zeros_like(x), iter(tiles)
            for part in ctx.parts:
                of_x, _ = gradient_products(
                    x,
                    world_x[part.rows],
                    scale,
                    part.plan,
                    part.packed.unpack(left),
                    row_grad=grad,
                    row_sums=rows,
                    column_grad=grads[part.rows],
                    column_sums=sums[part.rows],
                    need_y=False,
                )
                dx += of_x
            # Each pair's gradient stands at both of its places.
            dscale = inner_products(x, dx).sum() / 2
            result = dx.mul_(scale), dscale
        return (*(once_differentiable(z, x, scale) for z in result), *[None] * 4)
