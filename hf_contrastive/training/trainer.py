"""Train any Hugging Face dual encoder with any contrastive loss."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, ProgressCallback
from transformers.trainer_utils import TrainOutput

from hf_contrastive.batch import ContrastiveBatch, QueueRows
from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.functional.checks import NonFiniteError
from hf_contrastive.losses import ContrastiveLoss, get_loss, total, uses_bias
from hf_contrastive.losses.schedule import as_schedule
from hf_contrastive.queue import MemoryQueue
from hf_contrastive.temperature import ClampLogitScale, ScheduleLogitScale, set_logit_bias, set_logit_scale
from hf_contrastive.training.audit import NegativesAudit, global_batch_size
from hf_contrastive.training.card import CardMixin
from hf_contrastive.training.checkpoints import Part
from hf_contrastive.training.chunked import encode_in_chunks
from hf_contrastive.training.data_trainer import DataTrainer, refuse_too_little_data
from hf_contrastive.training.duplicates import token_inputs
from hf_contrastive.training.evaluation import EvaluationMixin
from hf_contrastive.training.inherited import refuse_other_training
from hf_contrastive.training.measure import describe
from hf_contrastive.training.micro_batches import refuse_sharded, split_micro_batches
from hf_contrastive.training.progress import ContrastiveProgress
from hf_contrastive.training.step import build_batch, refuse_unread
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


QUEUE_FILE = "memory_queue.safetensors"


class ContrastiveTrainer(CardMixin, DataTrainer, EvaluationMixin):
    """
    Trainer for models that embed two or more modalities in one space.

    It gathers the embeddings of all processes, with gradients, so that each example's negatives are the whole world's
    batch; keeps the temperature bounded and free of weight decay; logs loss terms, geometry and retrieval; and
    evaluates from embeddings alone. In all else it is a [`~transformers.Trainer`].

    Example:
    ```python
    trainer = ContrastiveTrainer(
        model=CLIPModel.from_pretrained("openai/clip-vit-base-patch32"),
        args=ContrastiveTrainingArguments("clip-flickr", loss="clip", per_device_train_batch_size=1024),
        train_dataset=dataset,
        data_collator=ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"}),
        processing_class=processor,
    )
    trainer.train()
    ```

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model with a `logit_scale` that returns `<modality>_embeds`: CLIP, SigLIP, a vision-text dual encoder.
        args ([`ContrastiveTrainingArguments`]):
            Arguments of the training run.
        loss ([`ContrastiveLoss`], *optional*):
            Loss to minimize. By default the one that `args` names.
        kwargs:
            Further arguments of [`TowerTrainer`] (`peft_config`) and of [`~transformers.Trainer`]. `compute_metrics` adds
            to geometry and retrieval; it gets the embeddings by modality as `predictions` and row numbers as
            `label_ids`. `evaluators` are further measures such as [`ZeroShot`], taken once per call of `evaluate`, whose
            results `metric_for_best_model` may name.
    """

    model: PreTrainedModel
    args: ContrastiveTrainingArguments
    # The loss is the mean of its batch: the Trainer divides it by the number of accumulated batches.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: nn.Module,
        args: ContrastiveTrainingArguments,
        *,
        loss: ContrastiveLoss | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_other_training(kwargs)
        if loss is None:
            loss = get_loss(args.loss, **(args.loss_kwargs or {}))  # type: ignore[arg-type]  # JSON is parsed by now
        refuse_too_little_data(kwargs.get("train_dataset"), args)
        with contrastive_forward(model):
            # Refuses a model that no contrastive loss can train, before anything is set up.
            set_logit_scale(model, scale=args.logit_scale, learn=args.learn_logit_scale)
            set_logit_bias(model, args.logit_bias, batch_size=global_batch_size(args), used=uses_bias(loss))
        super().__init__(model, args, **kwargs)
        refuse_sharded(self.accelerator.distributed_type, args)
        self.loss = loss
        self.add_callback(ClampLogitScale(args.max_logit_scale))
        if args.logit_scale_schedule is not None:
            schedule = as_schedule(args.logit_scale_schedule, "logit_scale_schedule")  # type: ignore[arg-type]
            self.add_callback(ScheduleLogitScale(schedule))
        self.audit: NegativesAudit | None = None
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(ContrastiveProgress)
        self.queue = MemoryQueue(args.queue_size) if args.queue_size else None
        if (queue := self.queue) is not None:
            self.checkpoints.add(
                Part(
                    file=QUEUE_FILE,
                    save=queue.save,
                    load=lambda file: queue.load(file, self.args.device),
                    missing="the queue of past embeddings starts empty",
                    snapshot=queue.rows,
                    restore=queue.restore,
                    reset=lambda: queue.restore(QueueRows()),
                )
            )
        self._latest: ContrastiveBatch | None = None
        self._unwrapped: tuple[nn.Module, nn.Module] = (model, model)

    # ---- Training ----

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        # Anew for each batch size that `auto_find_batch_size` tries.
        if self.args.negatives_audit:
            texts = token_inputs(self.model)
            self.audit = NegativesAudit(self.args, self.loss, self._train_batch_size, texts=texts)
        output: TrainOutput = super()._inner_training_loop(*args, **kwargs)
        return output

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor] | list[dict[str, Tensor]],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """This process's share of the loss of the world's batch. `num_items_in_batch` counts labels: there are none."""
        chunks, present, ids = split_micro_batches(inputs, self.args.encode_chunk_size)
        output = encode_in_chunks(
            partial(self.encode, model),
            chunks,
            model=self._unwrap(model),
            keep_bytes=self.args.encode_keep_bytes,
            no_sync=partial(self.accelerator.no_sync, model),
            replayed=self.steps.saw_replay,
        )
        # Outside of training `max_steps` may be unknown, and weights have their last values.
        progress = self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 1.0
        queue = self.queue.rows() if self.queue is not None and progress >= self.args.queue_start else QueueRows()
        fields = {"progress": progress, "margin": self.args.false_negative_margin, "queue": queue}
        try:
            batch = build_batch(output, present, ids, **fields)
        except NonFiniteError as error:
            if not self.is_in_train:
                raise
            extra = [x for x in (output.logit_scale, output.logit_bias) if x is not None]
            loss = self.steps.saw_fault(str(error).rstrip("."), output.embeds, extra, ids)
            return (loss, output.embeds) if return_outputs else loss
        terms = self.loss(batch)
        refuse_unread(batch, self.loss, queue_size=self.args.queue_size)
        if self.queue is not None and self.is_in_train:
            self.queue.push(batch)
        self._latest = batch
        loss = total(terms)
        self.note_batch(loss, terms, ids)
        if self.audit is not None and self.is_in_train:
            self.audit.see(chunks, batch, loss)
        return (loss, output.embeds) if return_outputs else loss

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> EncoderOutput:
        """Embed this process's examples. `model` may be wrapped for distributed training."""
        with contrastive_forward(self._unwrap(model), modalities=self.args.modalities):
            output: EncoderOutput = model(**inputs)
        return output

    def _unwrap(self, model: nn.Module) -> nn.Module:
        # Once per wrapper: `unwrap_model` looks up installed packages and walks the model, milliseconds each time.
        wrapped, inner = self._unwrapped
        if wrapped is not model:
            inner = self.accelerator.unwrap_model(model)
            self._unwrapped = (model, inner)
        return inner

    # ---- Logs ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add loss terms, temperature, geometry and retrieval of the latest global batch to a training log."""
        if "loss" in logs and self._latest is not None:
            logs |= self.data.shares() | describe(self._latest, geometry=self.args.log_geometry)
            if self._latest.ids is not None or self._latest.margin is not None:
                count = sum(self._latest.count_false_negatives(*pair) for pair in self._latest.pairs())
                logs["false_negatives"] = self._over_processes(self._latest.logit_scale.new_tensor(count)).sum().item()
            self._latest = None
        if "loss" in logs or "train_loss" in logs:
            logs |= self.count_skipped_rows(self.data)
        if self.audit is not None and ("loss" in logs or "train_loss" in logs):
            logs = logs | self.audit.logs_once(last="train_loss" in logs)
        super().log(logs, start_time)

    def _over_processes(self, value: Tensor) -> Tensor:
        gathered: Tensor = self.accelerator.gather(value.reshape(1))
        return gathered
