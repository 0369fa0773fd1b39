"""A Trainer that loses nothing: exact resumption, complete checkpoints, steps that are finite or not taken."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import DataLoader
from transformers.trainer_jit_checkpoint import JITCheckpointCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, has_length

from hf_contrastive.data.modalities import ROWS
from hf_contrastive.data.replay import CollatorWithRows, DataGenerators, replayable
from hf_contrastive.training.checkpoints import Checkpoints, Part, resolve_checkpoint
from hf_contrastive.training.loss_log import LossLog
from hf_contrastive.training.nonfinite import Rows, StepGuard
from hf_contrastive.training.preemption import SaveWhenTerminated
from hf_contrastive.training.pushing import PushingTrainer
from hf_contrastive.training.replacing import replaced
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


LOG_FILE = "loss_log.safetensors"


class ResumableTrainer(PushingTrainer):
    """
    [`~transformers.Trainer`] whose runs can be killed at any moment and resumed to the same weights.

    What is lost otherwise (transformers 5.23): random draws of the data, which would follow the model's; losses between
    the last log and the checkpoint; a run whose last checkpoint was being written.

    Attributes:
        checkpoints ([`Checkpoints`]): Further state to save: `checkpoints.add(Part(...))`.
        losses ([`LossLog`]): Loss terms since the last log.
        steps ([`StepGuard`]): What each batch's loss was. `steps.skipped` says, once the gradient is there, whether the
            step is not taken.
    """

    args: ContrastiveTrainingArguments
    _tr_loss: Tensor

    def __init__(self, model: nn.Module, args: ContrastiveTrainingArguments, **kwargs: Any) -> None:
        super().__init__(model, args, **kwargs)
        if self.is_deepspeed_enabled and args.max_nonfinite_steps:
            raise ValueError(
                f"max_nonfinite_steps is {args.max_nonfinite_steps}, but DeepSpeed updates the weights within the backward "
                "pass, where a step cannot be left out. Set it to 0: the first such step then ends the run."
            )
        heard = self.pop_callback(JITCheckpointCallback)
        self.preemption = None if heard is None else SaveWhenTerminated(heard)
        if self.preemption is not None:
            self.add_callback(self.preemption)
        self.losses = LossLog()
        self.steps = StepGuard(args.max_nonfinite_steps, args.output_dir)
        self._data = DataGenerators(args.order_seed, args.process_index)
        # Whether the next training loader is the one that is trained on, and not one that somebody looks at.
        self._loader_is_due = True
        self._statistics: list[tuple[Tensor, Tensor]] = []
        self.checkpoints = Checkpoints()
        self.checkpoints.add(
            Part(
                file=LOG_FILE,
                save=lambda file: self.losses.save(file, self._tr_loss),
                load=lambda file: self.losses.load(file, self.args.device),
                missing="the next log leaves out the steps before it",
                per_process=True,
            )
        )

    @property
    def terminated(self) -> bool:
        """Whether training ended early, with a checkpoint, because the process was told to end."""
        return self.preemption is not None and self.preemption.agreed

    @property
    def resumed_at(self) -> int | None:
        """The step at which the latest call of `train` began, None for the first of the run."""
        # Unset before the first call.
        return getattr(self, "_initial_global_step", 0) or None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """[`~transformers.Trainer.train`], from a complete checkpoint or none, see [`resolve_checkpoint`]."""
        checkpoint = resolve_checkpoint(resume_from_checkpoint, self.args.output_dir)
        self.steps.start(resumed=checkpoint is not None)
        output = super().train(checkpoint, *args, **kwargs)
        metrics = output.metrics | {"train_loss": self._over_taken(output.training_loss)}
        return output._replace(training_loss=metrics["train_loss"], metrics=metrics)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        # Once for each size that `auto_find_batch_size` tries, of which the last alone counts.
        self.losses, self._loader_is_due = LossLog(), True
        self.checkpoints.reset()
        output: TrainOutput = super()._inner_training_loop(*args, **kwargs)
        return output

    # ---- Data ----

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of [`~transformers.Trainer`], in training with reads that can be repeated."""
        if not self.is_in_train:
            return super().get_train_dataloader()
        data, collator = replayable(self.train_dataset, self.args.order_seed), CollatorWithRows(self.data_collator)
        if self._loader_is_due:
            self._data = DataGenerators(self.args.order_seed, self.args.process_index, data)
            self._loader_is_due = False
        with (
            replaced(self, train_dataset=data, data_collator=collator),
            # Else the order would follow torch's seed at this moment.
            replaced(self.accelerator.dataloader_config, data_seed=self.args.order_seed),
        ):
            return super().get_train_dataloader()

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The batches of one optimizer step, read with the data's random state and not the model's."""
        if self.state.global_step >= self.state.max_steps:
            # A finished run that is resumed in the middle of an epoch, where the Trainer would take one more step.
            return [], None
        first_pass = int(self.state.epoch or 0) if has_length(self.train_dataset) else 0
        with self._data.reading(epoch_iterator, first_pass):
            batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._begin_step([batch.pop(ROWS, None) if isinstance(batch, dict) else None for batch in batches])
        return batches, num_items

    # ---- Steps ----

    def note_batch(self, loss: Tensor, terms: Mapping[str, Tensor], ids: Tensor | None) -> None:
        """For `compute_loss` to tell the loss of a batch, its terms, and the ids of this process's examples."""
        if self.is_in_train:
            self.losses.add(terms)
            self.steps.saw(loss, terms, ids)

    def _begin_step(self, rows: list[Rows | None]) -> None:
        if self.args.accumulate_negatives and (known := [x for x in rows if x is not None]):
            # One batch of all of them.
            rows = [np.concatenate(known)]
        if (summed := self.losses.pop_summed()) is not None:
            # Of steps before this call, so it is no part of its `train_loss`.
            self._tr_loss += summed
            self._total_loss_scalar -= self.accelerator.gather(self._tr_loss.reshape(1)).mean().item()
            self._globalstep_last_logged -= self.losses.accepted + self.losses.skipped
        self.losses.begin()
        self.steps.begin(rows)
        self._before = self._tr_loss.clone(), self.checkpoints.snapshot()
        if self.steps.limit:
            self._statistics = [(buffer, buffer.clone()) for buffer in running_statistics(self.model)]

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float | None:
        # The last hook before the optimizer steps.
        norm: Tensor | float | None = super()._get_grad_norm(model, grad_norm)
        scaler, preemption = self.accelerator.scaler, self.preemption
        asked = preemption is not None and preemption.asked
        # DeepSpeed has a scaler of its own.
        scaled = self.is_deepspeed_enabled or (scaler is not None and scaler.is_enabled())
        skip, stop = self.steps.must_skip(norm, scaled=scaled, stop=asked, device=self.args.device)
        if preemption is not None:
            preemption.agreed = stop
        if skip:
            self._skip_step(model, norm)
        else:
            self.losses.accept()
        return norm

    def _skip_step(self, model: nn.Module, norm: Tensor | float | None) -> None:
        # Optimizers pass over parameters without a gradient: no update, no momentum, no decay.
        model.zero_grad(set_to_none=True)
        self.losses.skip()
        self._tr_loss, parts = self._before
        self.checkpoints.restore(parts)
        for buffer, before in self._statistics:
            buffer.copy_(before)
        self.steps.tell(self.state.global_step + 1, self.losses.nonfinite_steps, norm)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The log of [`~transformers.Trainer`] with loss terms and the number of steps that were not finite."""
        if "loss" in logs:
            self.losses.take(logs, lambda value: self.accelerator.gather(value.reshape(1)).mean().item())
        if "train_loss" in logs:
            logs = logs | {"train_loss": self._over_taken(logs["train_loss"])}
        super().log(logs, start_time)

    def _over_taken(self, train_loss: float) -> float:
        """The mean over steps, with those that were skipped left out, which the Trainer has divided by too."""
        steps = self.state.global_step - self._initial_global_step
        if not self.losses.skipped_here:
            return train_loss
        taken = steps - self.losses.skipped_here
        return train_loss * steps / taken if taken else float("nan")

    # ---- Checkpoints ----

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self.before_checkpoint(folder)
        self.checkpoints.begin(folder, self.args)
        # Older checkpoints are deleted, and this one is pushed, when it is complete.
        with replaced(self.args, save_total_limit=None, push_to_hub=False):
            super()._save_checkpoint(model, trial)
        self.checkpoints.finish(folder, self.args, best=self.state.best_model_checkpoint)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _state_files(self) -> list[str]:
        parts = [Path(part.file) for part in self.checkpoints.parts]
        return [f"{part.stem}*{part.suffix}" for part in parts]

    def _save_rng_state(self, output_dir: str) -> None:
        self._data.drop_spare()
        super()._save_rng_state(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Not `_load_from_checkpoint`, which DeepSpeed goes around. First: parts say best what does not fit.
        if checkpoint is not None:
            self.checkpoints.load(Path(checkpoint))
        super()._load_optimizer_and_scheduler(checkpoint)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Means and variances that layers update in the forward pass, before a step is known to be finite."""
    layers = [module for module in model.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    return [buffer for layer in layers for buffer in layer.buffers(recurse=False)]
