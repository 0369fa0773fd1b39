"""A Trainer whose processes stay together: sharded parameters, streams of unequal parts."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import IterableDataset

from hf_contrastive.data.streams import Stream
from hf_contrastive.distributed import world_size
from hf_contrastive.sharded_parameters import (
    refuse_another_launch,
    scalars_to_vectors,
    vectors_to_scalars,
    without_one_embedding,
    without_rounded_outputs,
)
from hf_contrastive.training.feeding import Agreement, TrainingFeed
from hf_contrastive.training.special_tokens import SpecialTokensTrainer
from hf_contrastive.training.stream_loader import stream_loader
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


class ManyProcessesTrainer(SpecialTokensTrainer):
    """
    A [`~transformers.Trainer`] that is right on several processes, or says why it cannot be.

    Raises:
        ValueError: The launcher asks for something that Accelerate would leave out.
    """

    args: ContrastiveTrainingArguments

    def __init__(self, model: nn.Module, args: ContrastiveTrainingArguments, **kwargs: Any) -> None:
        _refuse_data_parallel(args)
        super().__init__(model, args, **kwargs)
        refuse_another_launch(
            num_processes=args.world_size,
            fsdp_version=self.accelerator.state.fsdp_plugin.fsdp_version if self.is_fsdp_enabled else None,
            deepspeed=self.is_deepspeed_enabled,
        )
        if self.is_fsdp_enabled:
            without_one_embedding(model)
            without_rounded_outputs(self.accelerator.state.fsdp_plugin)
        # Parameters that had no dimension, which is what they are saved with.
        self._vectors = scalars_to_vectors(model) if self.is_fsdp_enabled or self.is_deepspeed_enabled else []
        self.agreement = Agreement(args.ddp_timeout)
        self.feed = TrainingFeed(self.agreement)
        self._asked: tuple[Any, bool] = (None, False)

    @property
    def is_stream(self) -> bool:
        """Whether the training data is a stream."""
        # Once for each dataset: to ask takes its time.
        if self._asked[0] is not self.train_dataset:
            self._asked = (self.train_dataset, isinstance(self.train_dataset, IterableDataset | Stream))
        return self._asked[1]

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The batches of one update. Of a stream all are full, on all processes, or the pass ends for all."""
        if self.is_stream:
            first = self.state.global_step == 0
            # Asked for each time: `auto_find_batch_size` lowers it.
            size, dataset = self._train_batch_size, self.train_dataset
            batches = self.feed.take(epoch_iterator, num_batches, size, first=first, dataset=dataset)
            epoch_iterator, num_batches = iter(batches), len(batches)
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _get_dataloader(self, dataset: Any, description: str, batch_size: int, *args: Any, **kwargs: Any) -> Any:
        training = kwargs.get("is_training", False)
        if not training or not isinstance(dataset, IterableDataset) or world_size() == 1:
            return super()._get_dataloader(dataset, description, batch_size, *args, **kwargs)
        collator = self._get_collator_with_removed_columns(self.data_collator, description=description)
        return stream_loader(dataset, collator, batch_size, self.args, self.accelerator)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict and vectors_to_scalars(state_dict, self._vectors))


def _refuse_data_parallel(args: ContrastiveTrainingArguments) -> None:
    if args.n_gpu > 1:
        raise ValueError(
            f"This process sees {args.n_gpu} GPUs and would use `nn.DataParallel`, whose replicas do not see each "
            "other's negatives. Start the script with `accelerate launch` or `torchrun`, one process per GPU."
        )
