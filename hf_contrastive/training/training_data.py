"""What feeds a training run: the order of rows of a map dataset, the position in a stream, the datasets of a mix."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState

from hf_contrastive.data.columns import column_values
from hf_contrastive.data.mixing import MixedDataset
from hf_contrastive.data.modalities import DATASET_NAME
from hf_contrastive.data.samplers import GroupSampler, NoDuplicatesSampler
from hf_contrastive.data.shuffling import as_resumable
from hf_contrastive.data.stream_batches import PositionCollator, StreamBatches
from hf_contrastive.data.stream_state import StreamState
from hf_contrastive.data.streams import Stream
from hf_contrastive.distributed import from_all
from hf_contrastive.training.micro_batches import rows_of_all_processes
from hf_contrastive.training.stream_loader import refuse_too_few_shards
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


class TrainingData:
    """
    Dataset, sampler and collator of a training loader, and the state that a checkpoint needs to go on with its next batch.

    Args:
        dataset:
            Training data: a map dataset, a `datasets` stream, what [`mix_datasets`] returns, or any other PyTorch dataset,
            which is left as it is.
        collator (`Callable`):
            Data collator.
        args ([`ContrastiveTrainingArguments`]):
            Arguments of the run.
        batch_size (`int`):
            Rows of a batch of the loader.

    Raises:
        ValueError: `no_duplicates` is asked of a stream, or cannot be kept; or another order, or that one process reads for
            all, is asked for where it would not be followed.
    """

    def __init__(
        self, dataset: Any, collator: Callable[..., Any], args: ContrastiveTrainingArguments, batch_size: int = 0
    ) -> None:
        self.dataset, self.collator, self._given = dataset, collator, dataset
        self._is_first = args.process_index == 0
        self.sampler: Sampler[int] | None = None
        self.stream: StreamState | None = None
        # By default Accelerate's main process reads a stream for all and joins their batches, which takes tensors only.
        self.loading: dict[str, Any] = {"dispatch_batches": False} if isinstance(dataset, Stream) else {}
        self._names: Counter[str] = Counter()
        self._random_state_of: str | None = None
        if dataset is None:
            return
        global_batch = rows_of_all_processes(args, batch_size)
        is_resumable = isinstance(dataset, Stream) or not isinstance(dataset, IterableDataset)
        if is_resumable and args.accelerator_config.dispatch_batches and args.world_size > 1:
            raise ValueError(
                "`dispatch_batches` of `accelerator_config` has one process read for all, which cannot be resumed at the next "
                "row. Set it to False: each process then reads its part."
            )
        if isinstance(dataset, Stream):
            if args.no_duplicates is not None:
                raise ValueError(
                    f"`no_duplicates` is {args.no_duplicates!r}, but a stream cannot be ordered by what its rows show. Mask "
                    "duplicates with the collator's `id_column`, or use a map dataset."
                )
            part = _own_shards(dataset, args)
            # Where each process reads the rows of all and keeps its own, a batch is the world's.
            rows = global_batch if part is None else batch_size
            batches = StreamBatches(
                as_resumable(dataset if part is None else part),
                rows,
                is_split=part is not None,
                seed=args.order_seed,
                rank=args.process_index,
            )
            self.dataset, self.collator = batches, PositionCollator(_WithNames(collator), batches)
            self.stream = StreamState(
                batches,
                rank=args.process_index,
                num_processes=args.world_size,
                num_workers=args.dataloader_num_workers,
            )
        elif not isinstance(dataset, IterableDataset):
            self.sampler = self._sampler(dataset, global_batch, args)
            if isinstance(dataset, MixedDataset):
                self.collator = _WithNames(collator)

    @contextmanager
    def epoch(self, trainer: Any, settings: dict[str, Any]) -> Iterator[None]:
        """A pass of the Trainer, whose `settings` are changed where it goes on with a stream from a checkpoint."""
        if isinstance(self.sampler, GroupSampler):
            # Accelerate does not reach a sampler through all the loaders that it puts around it.
            self.sampler.set_epoch(settings["epoch"])
        if self.stream is None:
            yield
            return
        checkpoint, step = settings["resume_from_checkpoint"], trainer.state.global_step
        resumes = checkpoint is not None and settings["epoch"] == settings["epochs_trained"]
        if resumes and all(from_all(self.stream.file(Path(checkpoint)).exists())):
            self.stream.load(Path(checkpoint))
            # The stream begins where it was, so there is nothing to skip.
            settings["steps_trained_in_current_epoch"], self._random_state_of = 0, checkpoint
        yield
        unfinished = trainer.state.global_step < trainer.state.max_steps
        if unfinished and self.stream.batches_before and trainer.state.global_step == step:
            # The Trainer stops where a pass has no step, but this one had some before it was resumed.
            trainer.control.should_training_stop = False

    def take(self, trainer: Any, batches: list[Any], wanted: int) -> None:
        """Take out of the batches of a step, `wanted` unless the pass ends, what they say of themselves."""
        last = len(batches) < wanted or trainer.accelerator.gradient_state.end_of_dataloader
        if self.stream is not None:
            ran_out = trainer.feed.ran_out or trainer.accelerator.gradient_state.end_of_dataloader
            self.stream.take(batches, last=last, ran_out=ran_out)
        for batch in batches:
            if isinstance(batch, dict):
                self._names.update(batch.pop(DATASET_NAME, []))
        if self._random_state_of is not None:
            # Making a loader has drawn a number.
            trainer._load_rng_state(self._random_state_of)
            self._random_state_of = None

    def shares(self) -> dict[str, float]:
        """Share of each dataset in this process's rows since the last call, as `dataset/<name>`; empty without a mix."""
        total = self._names.total()
        shares = {f"dataset/{name}": count / total for name, count in sorted(self._names.items())}
        self._names.clear()
        return shares

    @property
    def skipped_rows(self) -> int | None:
        """This process's share of the bad rows that were left out, or `None` if none may be."""
        count: int | None = getattr(self._given, "skipped_rows", None)
        if self.stream is None or count is None:
            return count
        # Where each process reads the rows of all, each has skipped the same.
        return self.stream.skipped_rows if self.stream.batches.is_split or self._is_first else 0

    def save(self, folder: Path) -> None:
        """Write the position in the stream, if there is one; every process calls it."""
        if self.stream is not None:
            # Where one process has no batch left, the pass is over for all.
            self.stream.ended = any(from_all(self.stream.ended))
            self.stream.save(folder)

    @staticmethod
    def _sampler(dataset: Any, global_batch: int, args: ContrastiveTrainingArguments) -> Sampler[int] | None:
        # Batches that are accumulated are each other's negatives only where they are asked to be.
        joined = args.gradient_accumulation_steps if getattr(args, "accumulate_negatives", False) else 1
        rows = global_batch * joined
        if isinstance(dataset, MixedDataset):
            _refuse_other_order(args, "a mix of datasets has")
            return dataset.sampler(rows, args.no_duplicates)
        if args.no_duplicates is None:
            return None
        _refuse_other_order(args, "`no_duplicates` makes")
        return NoDuplicatesSampler(column_values(dataset, args.no_duplicates), rows, seed=args.order_seed)


def _refuse_other_order(args: ContrastiveTrainingArguments, whose: str) -> None:
    if args.train_sampling_strategy != "random":
        raise ValueError(
            f"`train_sampling_strategy` is {args.train_sampling_strategy!r}, but {whose} an order of its own. Leave it at "
            "'random'."
        )


def _own_shards(stream: Stream, args: ContrastiveTrainingArguments) -> Stream | None:
    """The shards of this process, where it is to read those alone and not the rows of all, or has been given them."""
    processes, split = args.world_size, args.stream_split
    if processes == 1:
        return None
    # By `split_dataset_by_node`, which has no public trace.
    if split == "none" or getattr(stream, "_distributed", None) is not None:
        return stream
    if split == "shards":
        refuse_too_few_shards(stream)
    if split == "shards" or (split == "auto" and stream.num_shards % processes == 0):
        return stream.shard(processes, args.process_index, contiguous=False)
    return None


class CountPasses(TrainerCallback):
    """Counts the passes over a stream from the run's beginning. The Trainer begins anew at each resumption."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        stream = self.trainer.data.stream
        if stream is not None and state.epoch is not None:
            steps = args.max_steps * args.gradient_accumulation_steps
            state.epoch = stream.epoch + stream.num_batches / steps


class _WithNames:
    """A collator that keeps the names of the datasets that examples are from."""

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        named = [example[DATASET_NAME] for example in examples if DATASET_NAME in example]
        if not named:
            return self.collator(examples)
        rest = [{name: value for name, value in example.items() if name != DATASET_NAME} for example in examples]
        return {**self.collator(rest), DATASET_NAME: named}
