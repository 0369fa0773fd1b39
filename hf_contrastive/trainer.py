"""Train any Hugging Face dual encoder with any contrastive loss."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, ProgressCallback
from transformers.trainer_utils import EvalLoopOutput, has_length

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.checkpoints import Part
from hf_contrastive.distributed import world_size
from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.functional.checks import NonFiniteError
from hf_contrastive.losses import ContrastiveLoss, get_loss, total
from hf_contrastive.measure import describe, measure
from hf_contrastive.progress import ContrastiveProgress
from hf_contrastive.queue import MemoryQueue, QueueRows
from hf_contrastive.resumable import ResumableTrainer, replaced
from hf_contrastive.step import build_batch, split_inputs
from hf_contrastive.temperature import ClampLogitScale, is_scale_or_bias, scale_and_bias, set_logit_scale
from hf_contrastive.training_args import ContrastiveTrainingArguments


QUEUE_FILE = "memory_queue.safetensors"


class ContrastiveTrainer(ResumableTrainer):
    """
    Trainer for models that embed two or more modalities in one space.

    It gathers the embeddings of all processes, with gradients, so that each example's negatives are the whole world's
    batch; keeps the temperature bounded and free of weight decay; logs loss terms, geometry and retrieval; and
    evaluates from embeddings alone. Runs are resumed exactly, see [`ResumableTrainer`]. In all else it is a
    [`~transformers.Trainer`].

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
            Further arguments of [`~transformers.Trainer`]. `compute_metrics` adds to geometry and retrieval; it gets
            the embeddings by modality as `predictions` and row numbers as `label_ids`.
    """

    model: PreTrainedModel
    args: ContrastiveTrainingArguments
    # The loss is the mean of its batch: the Trainer divides it by the number of accumulated batches.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: PreTrainedModel,
        args: ContrastiveTrainingArguments,
        *,
        loss: ContrastiveLoss | None = None,
        **kwargs: Any,
    ) -> None:
        if loss is None:
            loss = get_loss(args.loss, **(args.loss_kwargs or {}))  # type: ignore[arg-type]  # JSON is parsed by now
        _refuse_data_parallel(args)
        _refuse_too_little_data(kwargs.get("train_dataset"), args)
        with contrastive_forward(model):
            # Refuses a model that no contrastive loss can train, before anything is set up.
            set_logit_scale(model, scale=args.logit_scale, learn=args.learn_logit_scale)
        super().__init__(model, args, **kwargs)
        self.loss = loss
        self.add_callback(ClampLogitScale(args.max_logit_scale))
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(ContrastiveProgress)
        self.queue = MemoryQueue(args.queue_size) if args.queue_size else None
        self.modalities: list[str] = []
        if (queue := self.queue) is not None:
            self.checkpoints.add(
                Part(
                    file=QUEUE_FILE,
                    save=queue.save,
                    load=lambda file: queue.load(file, self.args.device),
                    missing="the queue of past embeddings starts empty",
                    snapshot=queue.rows,
                    restore=queue.restore,
                )
            )
        self._latest: ContrastiveBatch | None = None

    # ---- Training ----

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """This process's share of the loss of the world's batch. `num_items_in_batch` counts labels: there are none."""
        inputs, present, ids = split_inputs(inputs)
        output = self.encode(model, inputs)
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
        if self.queue is not None:
            if not queue.asked:
                raise ValueError(
                    f"`queue_size` is {self.args.queue_size}, but {self.loss!r} has no use for past embeddings. Set it to "
                    "0, or take a loss with a softmax over the other modality, such as `clip`."
                )
            self.queue.push(batch)
        self._latest = batch
        loss = total(terms)
        self.note_batch(loss, terms, ids)
        return (loss, output.embeds) if return_outputs else loss

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> EncoderOutput:
        """Embed this process's examples. `model` may be wrapped for distributed training."""
        with contrastive_forward(self.accelerator.unwrap_model(model), modalities=self.args.modalities):
            output: EncoderOutput = model(**inputs)
        return output

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The training batches, all of them full. Evaluation keeps its last, shorter one."""
        with replaced(self.args, dataloader_drop_last=True):
            return super().get_train_dataloader()

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Parameters that decay: those of [`~transformers.Trainer`] but temperature and bias."""
        return [name for name in super().get_decay_parameter_names(model) if not is_scale_or_bias(name)]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of [`~transformers.Trainer`], with a learning rate of its own for temperature and bias."""
        existed = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        rate = self.args.logit_scale_learning_rate
        if rate is not None and not existed:
            named = (self.model if model is None else model).named_parameters()
            chosen = {id(parameter) for name, parameter in named if is_scale_or_bias(name)}
            for group in [group for group in optimizer.param_groups if chosen & {id(p) for p in group["params"]}]:
                apart = [p for p in group["params"] if id(p) in chosen]
                group["params"] = [p for p in group["params"] if id(p) not in chosen]
                optimizer.add_param_group({**group, "params": apart, "lr": rate})
        return optimizer

    # ---- Logs ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add loss terms, temperature, geometry and retrieval of the latest global batch to a training log."""
        if "loss" in logs and self._latest is not None:
            logs |= describe(self._latest, geometry=self.args.log_geometry)
            if self._latest.ids is not None or self._latest.margin is not None:
                count = sum(self._latest.count_false_negatives(*pair) for pair in self._latest.pairs())
                logs["false_negatives"] = self._over_processes(self._latest.logit_scale.new_tensor(count)).sum().item()
            self._latest = None
        super().log(logs, start_time)

    def _over_processes(self, value: Tensor) -> Tensor:
        gathered: Tensor = self.accelerator.gather(value.reshape(1))
        return gathered

    # ---- Evaluation ----

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, tuple[Tensor, ...], None]:
        """Embeddings of one batch and nothing else: the loss is computed from all of them at the end."""
        prepared, present, _ = split_inputs(self._prepare_inputs(inputs))
        if lacking := sorted(m for m, mask in present.items() if not mask.all()):
            raise ValueError(
                f"Some examples of the evaluation set lack their {' or '.join(lacking)}. Loss, geometry and "
                "retrieval need pairs: keep the complete examples, for instance with `dataset.filter`."
            )
        with torch.no_grad(), self.compute_loss_context_manager():
            output = self.encode(model, prepared)
        self.modalities = sorted(output.embeds)
        return None, tuple(output.embeds[m] for m in self.modalities), None

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Embed all examples, on the CPU and in order, then compute loss, geometry and retrieval once.

        `predictions` of the result are the embeddings, in the alphabetical order of their modalities.
        """
        # Lists on the CPU, joined once: the default copies everything again at each step, on the accelerator.
        with replaced(self.args, eval_do_concat_batches=False, eval_accumulation_steps=1):
            output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        if not output.predictions:
            raise ValueError(f"{description} has no examples: the dataset is empty.")
        joined = (torch.cat([torch.from_numpy(x) for x in parts]) for parts in zip(*output.predictions, strict=True))
        embeds = dict(zip(self.modalities, joined, strict=True))
        model = self.accelerator.unwrap_model(self.model)
        metrics = measure(self.loss, EncoderOutput(embeds, *scale_and_bias(model)), pool_size=self.args.eval_pool_size)
        if self.compute_metrics is not None:
            arrays = {m: x.numpy() for m, x in embeds.items()}
            rows = torch.arange(len(next(iter(embeds.values())))).numpy()
            metrics |= self.compute_metrics(EvalPrediction(predictions=arrays, label_ids=rows))
        known = {name: value for name, value in (output.metrics or {}).items() if not name.endswith("_loss")}
        return EvalLoopOutput(
            predictions=tuple(x.numpy() for x in embeds.values()),
            label_ids=None,
            metrics=known | {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=output.num_samples,
        )


def _refuse_data_parallel(args: ContrastiveTrainingArguments) -> None:
    if args.n_gpu > 1:
        raise ValueError(
            f"This process sees {args.n_gpu} GPUs and would use `nn.DataParallel`, whose replicas do not see each "
            "other's negatives. Start the script with `accelerate launch` or `torchrun`, one process per GPU."
        )


def _refuse_too_little_data(dataset: Any, args: ContrastiveTrainingArguments) -> None:
    if dataset is None or not has_length(dataset):
        return
    needed = args.per_device_train_batch_size * world_size()
    if len(dataset) < needed:
        raise ValueError(
            f"`train_dataset` has {len(dataset)} rows, fewer than one global batch of {needed} "
            f"({args.per_device_train_batch_size} per process, {world_size()} processes), and incomplete batches are "
            "dropped. Lower `per_device_train_batch_size` or add data."
        )
