"""Which rows training sees, in which order, and how many of them make up an update: below the contrastive loss."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers.trainer_utils import has_length

from hf_contrastive.data.replay import ReplayableReads
from hf_contrastive.data.stream_state import STREAM_FILE
from hf_contrastive.data.streams import Stream
from hf_contrastive.distributed import world_size
from hf_contrastive.training.checkpoints import Part
from hf_contrastive.training.micro_batches import WholeUpdates, rows_of_all_processes
from hf_contrastive.training.replacing import replaced
from hf_contrastive.training.tower_trainer import TowerTrainer
from hf_contrastive.training.training_args import ContrastiveTrainingArguments
from hf_contrastive.training.training_data import CountPasses, TrainingData


class DataTrainer(TowerTrainer):
    """
    Trainer whose batches are full, without duplicates where that is asked, of one dataset or of a mix, from maps or from
    streams that are resumed where they were.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to train.
        args ([`ContrastiveTrainingArguments`]):
            Arguments of the training run.
        kwargs:
            Further arguments of [`TowerTrainer`].

    Attributes:
        data ([`TrainingData`]): What the training loader reads.
    """

    def __init__(self, model: nn.Module, args: ContrastiveTrainingArguments, **kwargs: Any) -> None:
        super().__init__(model, args, **kwargs)
        self.data = TrainingData(None, self.data_collator, args)
        self.add_callback(CountPasses(self))
        if isinstance(self.train_dataset, Stream):
            self.checkpoints.add(
                Part(
                    file=STREAM_FILE,
                    save=lambda file: self.data.save(file.parent),
                    # The pass that goes on reads it.
                    load=lambda _: None,
                    missing="the stream is read again from its beginning",
                    per_process=True,
                )
            )
        self._micro_batches: list[Any] = []

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The training batches, all of them full. Evaluation keeps its last, shorter one."""
        data = TrainingData(self.train_dataset, self.data_collator, self.args, self._train_batch_size)
        kept = data if self._loader_is_due else self.data
        with (
            replaced(self.args, dataloader_drop_last=True),
            replaced(self, data=data, train_dataset=data.dataset, data_collator=data.collator),
            replaced(self.accelerator.dataloader_config, **data.loading),
        ):
            loader = super().get_train_dataloader()
        self.data = kept
        return loader

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """Numbers of steps and epochs. Of updates whose batches share their negatives, only whole ones count."""
        if args.accumulate_negatives and has_length(dataloader):
            dataloader = WholeUpdates(dataloader, args.gradient_accumulation_steps)
        return super().set_initial_training_values(args, dataloader)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if self.data.sampler is not None:
            return self.data.sampler
        # An order by length asks a `datasets.Dataset` for its column.
        inner = train_dataset.dataset if isinstance(train_dataset, ReplayableReads) else train_dataset
        return super()._get_train_sampler(inner)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of one optimizer step, which are counted as trained on: what loaders read ahead is not."""
        batches, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.data.take(self, batches, num_batches)
        self._micro_batches = batches
        return batches, number

    def _run_epoch(self, **kwargs: Any) -> None:
        with self.data.epoch(self, kwargs):
            super()._run_epoch(**kwargs)

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any) -> Tensor:
        """Gradients of one micro-batch, or of all of an update in place of its last one."""
        if not self.args.accumulate_negatives:
            return super().training_step(model, inputs, *args)
        if inputs is not self._micro_batches[-1]:
            return torch.zeros((), device=self.args.device)
        with replaced(self, current_gradient_accumulation_steps=1):
            return super().training_step(model, self._micro_batches, *args)


def refuse_too_little_data(dataset: Any, args: ContrastiveTrainingArguments) -> None:
    """Raise a ValueError if a dataset of known length has fewer rows than one global batch."""
    if dataset is None or not has_length(dataset):
        return
    joined = args.gradient_accumulation_steps if args.accumulate_negatives else 1
    needed = rows_of_all_processes(args) * joined
    if len(dataset) < needed:
        raise ValueError(
            f"`train_dataset` has {len(dataset)} rows, fewer than one global batch of {needed} "
            f"(`per_device_train_batch_size` is {args.per_device_train_batch_size}, {world_size()} processes), and incomplete "
            "batches are dropped. Lower `per_device_train_batch_size` or add data."
        )
