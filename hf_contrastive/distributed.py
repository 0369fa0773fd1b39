"""Gather rows from all processes, with gradients, and what else processes tell each other."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.functional import Moments, PairMoments
from hf_contrastive.functional.checks import refuse_any_nonfinite
from hf_contrastive.hard_negatives import collect, without_hard_negatives
from hf_contrastive.pair_scales import scale_and_bias_fields


M = TypeVar("M", Moments, PairMoments)
T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes, 1 when there is no process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the index of this process, 0 when there is no process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def any_process(flags: Bool[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Which flags any process has set."""
    if world_size() == 1:
        return flags
    counts = flags.to(torch.int32)
    dist.all_reduce(counts, op=dist.ReduceOp.MAX)
    return counts.bool()


def from_all(value: Any) -> list[Any]:
    """A value of every process, in rank order. All must call it."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def from_main(ask: Callable[[], T]) -> T:
    """What the main process, which alone is asked, answers, on every process. All must call it."""
    if world_size() == 1:
        return ask()
    answer = [ask() if rank() == 0 else None]
    dist.broadcast_object_list(answer)
    return answer[0]  # type: ignore[return-value]  # it is the main process's by now


def wait_for_all() -> None:
    """Return when every process has called it."""
    if world_size() > 1:
        dist.barrier()


def all_reduce_moments(moments: M) -> M:
    """Moments of the rows of all processes, on every one of them, by one all-reduce. All must call it.

    Moments of rows and of pairs alike. A process may have none.
    """
    if world_size() == 1:
        return moments
    vector = moments.to_vector()
    if dist.get_backend() == "nccl":
        vector = vector.cuda()
    dist.all_reduce(vector)
    return moments.from_vector(vector, moments.width, normalize=moments.normalize)


def all_gather_rows(x: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "B *rest"]:
    """Stack the rows of every process in rank order.

    The gradient of a row is the sum over processes, returned to the process that computed it. A loss that is this
    process's share of the world's loss therefore has the world's gradient after DDP averages.

    Raises:
        ValueError: The processes hold different numbers of rows, or rows of different shapes. All of them raise, so none
            is left waiting.
    """
    if world_size() == 1:
        return x
    gathered = [torch.zeros(x.dim(), dtype=torch.long, device=x.device) for _ in range(world_size())]
    dist.all_gather(gathered, torch.tensor(x.shape, device=x.device))
    shapes = torch.stack(gathered).tolist()
    if len({rows for rows, *_ in shapes}) > 1:
        raise ValueError(
            f"Every process must bring the same number of rows to a batch, but they bring {[s[0] for s in shapes]}. Train "
            "with `dataloader_drop_last=True` and shards of equal length."
        )
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"Every process must bring rows of the same shape to a batch, but theirs are {[s[1:] for s in shapes]}: "
            "embeddings of each example, hard negatives among them, and their width. Give every example the same "
            "modalities (marked where one is missing) and as many hard negatives."
        )
    return gather_rows(x)


def gather_rows(x: Shaped[Tensor, "b *rest"]) -> Shaped[Tensor, "B *rest"]:
    """[`all_gather_rows`] of rows that are known to be as many on every process."""
    return _AllGatherRows.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it untyped


class _AllGatherRows(torch.autograd.Function):
    # Written with the collectives that every torch release and backend has: torch 2.13 deprecates the differentiable
    # ones of torch.distributed.nn and renames those of torch.distributed.

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gathered = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(gathered, x.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Clone: autograd may hand the same tensor to others, and the sum is in place.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(world_size())[rank()]


def gather_batch(
    output: EncoderOutput,
    present: dict[str, Bool[Tensor, "b"]] | None = None,
    ids: Int[Tensor, "b"] | None = None,
    **fields: Any,
) -> ContrastiveBatch:
    """Turn what the model computed on this process into what the loss sees.

    All modalities travel in one collective, so processes cannot disagree on the order of several.

    Args:
        output: What the model computed.
        present: Rows that have each modality. By default all rows have all of them.
        ids: What each row shows, on every process or on none. By default every row is its own.
        fields: Further fields of the batch.

    Raises:
        ValueError: A present embedding is not finite. Every process raises, naming the row of the world's batch.
    """
    if world_size() == 1:
        return _batch_of_this_process(output, present, ids, **fields)
    modalities = sorted(output.embeds)
    stacked = torch.stack([output.embeds[m] for m in modalities], dim=1)  # (b, S, d)
    masks: dict[str, Tensor]
    if present is None:
        world = all_gather_rows(stacked)
        masks = dict.fromkeys(modalities, world.new_ones(len(world), dtype=torch.bool))
    else:
        mask = torch.stack([present[m] for m in modalities], dim=1)
        # `where` and not a product: an absent row may hold anything, NaN included.
        stacked = torch.where(mask.unsqueeze(-1), stacked, torch.zeros_like(stacked))
        world = all_gather_rows(stacked)
        masks = dict(zip(modalities, gather_rows(mask).unbind(dim=1), strict=True))
    refuse_any_nonfinite({f"{m}_embeds": world[:, position] for position, m in enumerate(modalities)})
    of_all = dict(zip(modalities, world.unbind(dim=1), strict=True))
    return ContrastiveBatch(
        local=without_hard_negatives(dict(zip(modalities, stacked.unbind(dim=1), strict=True))),
        world=without_hard_negatives(of_all),
        present=without_hard_negatives(masks),
        hard_negatives=collect(of_all),
        rank=rank(),
        gather=gather_rows,
        ids=None if ids is None else gather_rows(ids),
        **scale_and_bias_fields(list(without_hard_negatives(output.embeds)), output.logit_scale, output.logit_bias),
        **fields,
    )


def _batch_of_this_process(
    output: EncoderOutput, present: dict[str, Bool[Tensor, "b"]] | None, ids: Int[Tensor, "b"] | None, **fields: Any
) -> ContrastiveBatch:
    # What absent rows hold is never used.
    there = {m: x if present is None else x[present[m]] for m, x in output.embeds.items()}
    refuse_any_nonfinite({f"{m}_embeds": x for m, x in there.items()})
    return ContrastiveBatch.whole(
        dict(sorted(without_hard_negatives(output.embeds).items())),
        output.logit_scale,
        output.logit_bias,
        None if present is None else without_hard_negatives(present),
        ids,
        hard_negatives=collect(output.embeds),
        **fields,
    )
