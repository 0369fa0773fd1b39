"""Train any Hugging Face dual encoder with any contrastive loss."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, ProgressCallback, Trainer
from transformers.trainer_utils import EvalLoopOutput, has_length

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_batch, world_size
from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.losses import ContrastiveLoss, get_loss, total
from hf_contrastive.metrics import geometry_report, retrieval_report
from hf_contrastive.progress import ContrastiveProgress
from hf_contrastive.temperature import ClampLogitScale, is_scale_or_bias, set_logit_scale
from hf_contrastive.training_args import ContrastiveTrainingArguments


class ContrastiveTrainer(Trainer):
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
        self.modalities: list[str] = []
        self._terms: dict[str, list[Tensor]] = defaultdict(list)
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
        output = self.encode(model, inputs)
        # In evaluation, `max_steps` may be unknown, and weights have their last values.
        progress = self.state.global_step / self.state.max_steps if self.state.max_steps > 0 else 1.0
        batch = gather_batch(output, progress=progress)
        terms = self.loss(batch)
        for name, value in terms.items():
            self._terms[f"loss/{name}"].append(value.detach())
        self._latest = batch
        loss = total(terms)
        return (loss, output.embeds) if return_outputs else loss

    def encode(self, model: nn.Module, inputs: dict[str, Tensor]) -> EncoderOutput:
        """Embed this process's examples. `model` may be wrapped for distributed training."""
        with contrastive_forward(self.accelerator.unwrap_model(model), modalities=self.args.modalities):
            output: EncoderOutput = model(**inputs)
        return output

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The training batches, all of them full. Evaluation keeps its last, shorter one."""
        with _replaced(self.args, dataloader_drop_last=True):
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
            for name, values in self._terms.items():
                share = torch.stack(values).mean()
                logs[name] = float(self.accelerator.gather(share.reshape(1)).mean())
            self._terms.clear()
            logs["logit_scale"] = float(self._latest.logit_scale.detach())
            if self._latest.logit_bias is not None:
                logs["logit_bias"] = float(self._latest.logit_bias.detach())
            if self.args.log_geometry:
                embeds = {m: x.detach() for m, x in self._latest.world.items()}
                logs |= geometry_report(embeds) | retrieval_report(embeds, ks=(1,), median=False)
            self._latest = None
        super().log(logs, start_time)

    # ---- Evaluation ----

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, tuple[Tensor, ...], None]:
        """Embeddings of one batch and nothing else: the loss is computed from all of them at the end."""
        with torch.no_grad(), self.compute_loss_context_manager():
            output = self.encode(model, self._prepare_inputs(inputs))
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
        with _replaced(self.args, eval_do_concat_batches=False, eval_accumulation_steps=1):
            output = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        if not output.predictions:
            raise ValueError(f"{description} has no examples: the dataset is empty.")
        joined = (torch.cat([torch.from_numpy(x) for x in parts]) for parts in zip(*output.predictions, strict=True))
        embeds = dict(zip(self.modalities, joined, strict=True))
        metrics = self._measure(embeds)
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

    @torch.no_grad()
    def _measure(self, embeds: dict[str, Tensor]) -> dict[str, float]:
        """Loss in pools of equal size, geometry and retrieval of all rows."""
        model = self.accelerator.unwrap_model(self.model)
        bias = getattr(model, "logit_bias", None)
        scale = model.logit_scale.detach().exp().squeeze().to("cpu")
        bias = None if bias is None else bias.detach().squeeze().to("cpu")
        num_rows = len(next(iter(embeds.values())))
        # Parts whose sizes differ by one at most, whatever the batch size or the number of processes.
        pools = torch.arange(num_rows).tensor_split(max(1, round(num_rows / self.args.eval_pool_size)))
        terms: dict[str, list[Tensor]] = defaultdict(list)
        for rows in pools:
            pool = ContrastiveBatch.whole({m: x[rows] for m, x in embeds.items()}, scale, bias)
            for name, value in self.loss(pool).items():
                terms[name].append(value)
        losses = {f"loss/{name}": float(torch.stack(values).mean()) for name, values in terms.items()}
        metrics = {"loss": sum(losses.values()), **losses, "logit_scale": float(scale)}
        if num_rows > 1:
            metrics |= geometry_report(embeds, separability=num_rows >= 10)
        return metrics | retrieval_report(embeds)


@contextmanager
def _replaced(args: ContrastiveTrainingArguments, **values: Any) -> Iterator[None]:
    """Give arguments other values for a while: set for good, they would be saved and reach other methods."""
    kept = {name: getattr(args, name) for name in values}
    for name, value in values.items():
        setattr(args, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(args, name, value)


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
