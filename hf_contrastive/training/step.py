"""From inputs of a step to the batch that a loss sees: what the collator says of examples, and what training adds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch, QueueRows
from hf_contrastive.data.collator import PRESENT
from hf_contrastive.data.modalities import IDS
from hf_contrastive.distributed import gather_batch
from hf_contrastive.encoder import EncoderOutput


def split_inputs(inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor | None]:
    """Inputs of the model, which examples have each modality (where some lack one), and ids of the examples."""
    present = {name.removeprefix(PRESENT): x for name, x in inputs.items() if name.startswith(PRESENT)}
    model = {name: x for name, x in inputs.items() if not name.startswith(PRESENT) and name != IDS}
    return model, present, inputs.get(IDS)


def build_batch(
    output: EncoderOutput, present: Mapping[str, Tensor], ids: Tensor | None, **fields: Any
) -> ContrastiveBatch:
    """
    The world's batch.

    Args:
        output (`EncoderOutput`):
            What the model made of this process's examples.
        present (`dict[str, torch.Tensor]`):
            Which examples have each modality; modalities that are not named are there.
        ids (`torch.Tensor`, *optional*):
            What each example shows.
        fields:
            Further fields of [`ContrastiveBatch`].

    Raises:
        ValueError: An example has fewer than two modalities, or `present` names one that the model does not return.
    """
    if unknown := sorted(set(present) - set(output.embeds)):
        raise ValueError(f"Examples lack {unknown}, but the model returned {sorted(output.embeds)}.")
    # Collators mark the examples of all steps and processes or of none, where nothing can be missing.
    mask = (
        {m: present.get(m, x.new_ones(len(x), dtype=torch.bool)) for m, x in output.embeds.items()}
        if present
        else None
    )
    batch = gather_batch(output, mask, ids, **fields)
    if not present:
        return batch
    alone = torch.stack(list(batch.present.values())).sum(dim=0) < 2
    if alone.any():
        raise ValueError(
            f"Row {int(alone.nonzero()[0, 0])} of the batch has fewer than two of the modalities {batch.modalities}, so "
            f"there is nothing to compare ({int(alone.sum())} such rows). Drop them from the dataset."
        )
    return batch


def refuse_unread(batch: ContrastiveBatch, loss: object, *, queue_size: int = 0) -> None:
    """
    Raise a ValueError if the batch brought negatives that the loss, which has seen it, did not read.

    Args:
        batch ([`ContrastiveBatch`]):
            The batch, whose queue is a [`QueueRows`] if there is one.
        loss (`object`):
            The loss, for the message.
        queue_size (`int`, *optional*, defaults to 0):
            Rows that the queue may hold, 0 where there is none.
    """
    if batch.hard_negatives and not batch.hard_negatives.is_read:
        raise ValueError(
            f"The data has hard negatives of {sorted(batch.hard_negatives)}, but {loss} has no use for them. Train with a "
            "softmax over the other modality, such as `info_nce` or `clip`, or name no column of hard negatives."
        )
    if queue_size and isinstance(batch.queue, QueueRows) and not batch.queue.asked:
        raise ValueError(
            f"`queue_size` is {queue_size}, but {loss!r} has no use for past embeddings. Set it to 0, or take a loss with a "
            "softmax over the other modality, such as `clip`."
        )
