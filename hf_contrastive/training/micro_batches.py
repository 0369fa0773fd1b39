"""From the inputs of an update to the chunks that the model sees, and what the trainer knows of their rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor

from hf_contrastive.data.modalities import IDS
from hf_contrastive.distributed import world_size
from hf_contrastive.hard_negatives import numbers_of_hard_negatives
from hf_contrastive.training.step import split_inputs
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


def rows_of_all_processes(args: ContrastiveTrainingArguments, batch_size: int | None = None) -> int:
    """Rows of one batch of all processes, each of whose loaders has `batch_size`, by default that of `args`."""
    size = args.per_device_train_batch_size if batch_size is None else batch_size
    # Of `split_batches` each process takes its part of a batch.
    return size * (1 if args.accelerator_config.split_batches else world_size())


def split_micro_batches(
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]], chunk_size: int | None
) -> tuple[list[dict[str, Any]], dict[str, Tensor], Tensor | None]:
    """
    Chunks of model inputs, which rows have each modality, and ids of the rows, see [`split_inputs`].

    Args:
        inputs (`dict` or `list[dict]`):
            One batch, or micro-batches that make up one. They may be padded to different lengths.
        chunk_size (`int`, *optional*):
            Rows of a chunk. By default each micro-batch is one.

    Raises:
        ValueError: Only some micro-batches mark missing modalities or have ids, their examples have different numbers of
            hard negatives, or [`split_rows`] refuses one.
    """
    batches = [inputs] if isinstance(inputs, Mapping) else inputs
    parts = [split_inputs(batch) for batch in batches]
    marks = [set(present) | ({IDS} if ids is not None else set()) for _, present, ids in parts]
    if any(names != marks[0] for names in marks):
        raise ValueError(
            "The collator must mark missing modalities and ids in all micro-batches of an update or in none, but "
            f"their marks are {[sorted(names) for names in marks]}."
        )
    numbers = [numbers_of_hard_negatives(model) for model, _, _ in parts]
    if any(number != numbers[0] for number in numbers):
        raise ValueError(
            "`accumulate_negatives` makes one batch of all micro-batches of an update, whose examples must have the same "
            f"numbers of hard negatives, but by micro-batch these are {numbers}. Give every example as many "
            "(`num_hard_negatives` of the collator), or leave out `accumulate_negatives`."
        )
    chunks = [c for model, _, _ in parts for c in ([model] if chunk_size is None else split_rows(model, chunk_size))]
    present = {m: torch.cat([part[1][m] for part in parts]) for m in parts[0][1]}
    ids = None if parts[0][2] is None else torch.cat([part[2] for part in parts if part[2] is not None])
    return chunks, present, ids


def split_rows(inputs: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Inputs of a model in chunks of `size` rows, the last one of what is left. Every chunk gets scalars whole.

    Raises:
        ValueError: Two tensors have different numbers of rows, or an input is neither a tensor nor a scalar.
    """
    rows: dict[str, int] = {}
    for name, x in inputs.items():
        if isinstance(x, Tensor) and x.dim():
            rows[name] = len(x)
        elif not (x is None or isinstance(x, (Tensor, bool, int, float, str))):
            raise ValueError(
                f"`encode_chunk_size` splits tensors of one row per example, but the input `{name}` is a "
                f"{type(x).__name__}. Let the collator return a tensor, or leave out `encode_chunk_size`."
            )
    if len(set(rows.values())) != 1:
        raise ValueError(
            f"`encode_chunk_size` splits tensors of one row per example, but the inputs have these numbers of rows: "
            f"{rows}. Let the collator give all of them one row per example, or leave out `encode_chunk_size`."
        )
    return [
        {name: x[start : start + size] if name in rows else x for name, x in inputs.items()}
        for start in range(0, next(iter(rows.values())), size)
    ]


class WholeUpdates:
    """A loader as long as the updates that it can fill; what is left would be an update with fewer negatives.

    Args:
        loader (`torch.utils.data.DataLoader`):
            The loader.
        num_batches (`int`):
            Batches of an update.
    """

    def __init__(self, loader: Any, num_batches: int) -> None:
        self.loader, self.num_batches = loader, num_batches

    def __len__(self) -> int:
        return len(self.loader) // self.num_batches * self.num_batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def refuse_sharded(kind: DistributedType, args: ContrastiveTrainingArguments) -> None:
    """Raise a ValueError if several forward passes per backward pass are asked of a backend that cannot do them."""
    asked = [name for name in ("encode_chunk_size", "accumulate_negatives") if getattr(args, name)]
    # MULTI_GPU and its like are DDP. FSDP, DeepSpeed and others expect one forward pass per backward pass.
    if asked and kind != DistributedType.NO and not kind.value.startswith("MULTI_"):
        raise ValueError(
            f"`{asked[0]}` embeds a batch in several forward passes before and within one backward pass, which "
            f"{kind.value} does not support: it gathers, frees and reduces parameters once for "
            f"each. Train with plain data parallelism (DDP), or leave out `{asked[0]}` and use gradient checkpointing."
        )
