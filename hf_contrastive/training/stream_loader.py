"""Which rows of a stream each process reads, and the loader that reads them."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import datasets
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, IterableDataset

from hf_contrastive.distributed import rank, world_size
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


def split_stream(dataset: Any, split: str) -> Any:
    """
    The part of a stream that this process reads.

    Args:
        dataset (`datasets.IterableDataset` or `torch.utils.data.IterableDataset`):
            The stream, in the same order on every process: shuffle it with a seed.
        split (`str`):
            `shards` gives each process its own shards; `examples` every process all of them, of which it keeps one
            example of each group of as many as there are processes; `auto` takes shards if all processes get equally many,
            else examples; `none` takes the stream as split already.

    Raises:
        ValueError: There are not enough shards, or the stream has none.
    """
    processes = world_size()
    if processes == 1 or split == "none" or getattr(dataset, "is_split", False):
        return dataset
    if not isinstance(dataset, datasets.IterableDataset):
        if split == "shards":
            raise ValueError(
                f"`stream_split` is 'shards', but a {type(dataset).__name__} has none. Take 'examples', or 'none' if "
                "it yields each process its own rows."
            )
        return _EveryNth(dataset, rank(), processes)
    if dataset._distributed is not None:  # by `split_dataset_by_node`, which has no public trace
        return dataset
    if split == "shards":
        refuse_too_few_shards(dataset)
    return split_dataset_by_node(dataset, rank(), processes, strategy=split)


def refuse_too_few_shards(dataset: Any) -> None:
    """Raise a ValueError if a stream has fewer shards than there are processes to read them."""
    if dataset.num_shards < world_size():
        raise ValueError(
            f"`stream_split` is 'shards', but {dataset.num_shards} shards do not reach for {world_size()} processes. Take "
            "'examples', or write the data in more shards."
        )


class _EveryNth(IterableDataset[Any]):
    """Every n-th example of a stream."""

    def __init__(self, dataset: Iterable[Any], offset: int, step: int) -> None:
        self.dataset, self.offset, self.step = dataset, offset, step

    def __iter__(self) -> Iterator[Any]:
        return islice(self.dataset, self.offset, None, self.step)

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)


def stream_loader(
    dataset: Any,
    collator: Callable[[list[Any]], Any],
    batch_size: int,
    args: ContrastiveTrainingArguments,
    accelerator: Accelerator,
) -> Any:
    """
    Training loader of this process's part of a stream, in place of Accelerate's, which repeats rows to fill the last batch.

    `dispatch_batches=True` in `args.accelerator_config` leaves reading to the first process.

    Raises:
        ValueError: `split_batches` is asked for.
    """
    dispatch = bool(accelerator.dispatch_batches)
    if accelerator.split_batches:
        raise ValueError(
            "`split_batches` of `accelerator_config` is for datasets with a length: of a stream each process reads batches of "
            f"its own. Set it to False, and `per_device_train_batch_size` to {batch_size // world_size()}."
        )
    if not dispatch:
        dataset = split_stream(dataset, args.stream_split)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=collator,
        # Elsewhere the feed drops the last batch, and counts it.
        drop_last=dispatch,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        prefetch_factor=args.dataloader_prefetch_factor,
        in_order=args.dataloader_in_order,
    )
    return prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=world_size() if dispatch else 1,
        process_index=rank() if dispatch else 0,
        put_on_device=True,
        dispatch_batches=dispatch,
        non_blocking=accelerator.non_blocking,
    )
