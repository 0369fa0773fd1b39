"""How the trainer evaluates: embeddings of all rows, each once and in order, then every measure from them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput, has_length

from hf_contrastive.data.modalities import ROWS
from hf_contrastive.data.numbering import NumberedCollator, NumberedRows, NumberedStream
from hf_contrastive.data.skipped import skipped_rows
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.evaluators import Encoder, Evaluator, ModelEncoder, evaluate_all, refuse_equal_names
from hf_contrastive.evaluators.store import EmbeddingStore, StoredEmbeds, on_every_process
from hf_contrastive.hard_negatives import without_hard_negatives
from hf_contrastive.losses import ContrastiveLoss
from hf_contrastive.temperature import scale_and_bias
from hf_contrastive.training.figures import Evaluation
from hf_contrastive.training.measure import measure
from hf_contrastive.training.processes import ManyProcessesTrainer
from hf_contrastive.training.replacing import replaced
from hf_contrastive.training.step import split_inputs
from hf_contrastive.training.unprepared import unprepared_after


class EvaluationMixin(ManyProcessesTrainer):
    """
    Evaluation and prediction of the [`ContrastiveTrainer`].

    Args:
        args (`tuple`):
            Arguments of [`~transformers.Trainer`].
        evaluators (`list[Evaluator]`, *optional*):
            Further measures of the model, such as [`ZeroShot`], taken once per call of `evaluate`.
        kwargs (`dict`):
            Arguments of [`~transformers.Trainer`].
    """

    loss: ContrastiveLoss

    def __init__(self, *args: Any, evaluators: list[Evaluator] | None = None, **kwargs: Any) -> None:
        if kwargs.get("preprocess_logits_for_metrics") is not None:
            raise ValueError(
                "`preprocess_logits_for_metrics` has no logits to work on: `predictions` are the embeddings. Do the work "
                "in `compute_metrics`."
            )
        self.evaluators = list(evaluators or [])
        refuse_equal_names(self.evaluators)
        super().__init__(*args, **kwargs)
        # Of the latest evaluation or prediction, in the order of its `predictions`.
        self.modalities: list[str] = []
        # The latest call of `evaluate`, of several datasets the first.
        self.evaluation: Evaluation | None = None
        self._store: EmbeddingStore | None = None
        # Prefix under which evaluators are due, set by the outermost call of `evaluate` for its first dataset.
        self._due: str | None = None
        self._evaluating = False

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """
        Evaluate on one dataset, or on several in a dictionary, whose names then follow the prefix of their metrics.

        Evaluators run once, with the first dataset, under the prefix alone.

        Args:
            eval_dataset (`torch.utils.data.Dataset` or `dict[str, torch.utils.data.Dataset]`, *optional*):
                Data other than the trainer's `eval_dataset`.
            ignore_keys (`list[str]`, *optional*):
                Not used: embeddings are all that is kept.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`):
                What names of metrics begin with.
        """
        if self._evaluating:  # one of several datasets
            found: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            return found
        self._evaluating, self._due = True, metric_key_prefix
        try:
            found = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:
            self._evaluating, self._due = False, None
        return found

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, tuple[Tensor, ...] | None, None]:
        """Embed one batch. Inside `evaluate` and `predict` the embeddings go to their rows of a buffer, at once."""
        inputs = dict(self._prepare_inputs(inputs))
        rows = inputs.pop(ROWS, None)
        prepared, present, ids = split_inputs(inputs)
        if lacking := sorted(m for m, mask in present.items() if not mask.all()):
            raise ValueError(
                f"Some examples of the evaluation set lack their {' or '.join(lacking)}. Loss, geometry and "
                "retrieval need pairs: keep the complete examples, for instance with `dataset.filter`."
            )
        with torch.no_grad(), self.compute_loss_context_manager():
            output: EncoderOutput = self.encode(model, without_hard_negatives(prepared))
        if self._store is None:
            return None, tuple(x for _, x in sorted(output.embeds.items())), None
        self._store.add(rows, output.embeds, ids)
        return None, None, None

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
        dataset = getattr(dataloader, "dataset", None)
        self._store = EmbeddingStore(len(dataset) if isinstance(dataset, NumberedRows) else None)
        try:
            with unprepared_after(self.accelerator, self.model):
                output = on_every_process(
                    lambda: super(EvaluationMixin, self).evaluation_loop(
                        dataloader, description, False, ignore_keys, metric_key_prefix
                    )
                )
            stored = self._store.join(self.args.device)
        finally:
            self._store = None
        if stored is None:
            raise ValueError(f"{description} has no examples: the dataset is empty.")
        self.modalities = list(stored.embeds)
        metrics = self._measure(stored)
        # Of a stream each process reads all rows.
        is_stream = not isinstance(dataset, NumberedRows)
        metrics |= self.count_skipped_rows(getattr(dataset, "dataset", dataset), whole=is_stream)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        rows = len(next(iter(stored.embeds.values())))
        if (prefix := self._due) is not None:
            self._due = None
            self.evaluation = Evaluation(metric_key_prefix, getattr(dataset, "dataset", dataset), rows)
            if self.evaluators:
                extra = evaluate_all(self.evaluators, self.evaluation_encoder(), progress=not self.args.disable_tqdm)
                named |= {f"{prefix}_{name}": value for name, value in extra.items()}
        known = {name: value for name, value in (output.metrics or {}).items() if not name.endswith("_loss")}
        return EvalLoopOutput(
            predictions=tuple(x.numpy() for x in stored.embeds.values()),
            label_ids=None,
            metrics=known | named,
            num_samples=rows,
        )

    def _measure(self, stored: StoredEmbeds) -> dict[str, float]:
        """Loss, geometry and retrieval of embeddings, and what `compute_metrics` makes of them."""
        whole = EncoderOutput(stored.embeds, *scale_and_bias(self.accelerator.unwrap_model(self.model)))
        metrics = measure(self.loss, whole, pool_size=self.args.eval_pool_size, ids=stored.ids)
        if self.compute_metrics is not None:
            arrays = {m: x.numpy() for m, x in stored.embeds.items()}
            rows = torch.arange(len(next(iter(arrays.values())))).numpy()
            metrics |= self.compute_metrics(EvalPrediction(predictions=arrays, label_ids=rows))
        return metrics

    def count_skipped_rows(self, dataset: Any, *, whole: bool = False) -> dict[str, float]:
        """How many bad rows of a dataset, of which each process reads a part or the `whole`, were left out so far."""
        counts = {name: torch.tensor([n], device=self.args.device) for name, n in skipped_rows(dataset).items()}
        gathered = {name: self.accelerator.gather(n) for name, n in counts.items()}
        return {name: float(n.max() if whole else n.sum()) for name, n in gathered.items()}

    def evaluation_encoder(self) -> Encoder:
        """What evaluators embed with: the model, with the processor of the collator or the `processing_class`."""
        return ModelEncoder(
            self.accelerator.unwrap_model(self.model),
            getattr(self.data_collator, "processor", None) or self.processing_class,
            processor_kwargs=getattr(self.data_collator, "processor_kwargs", None),
            wrapped=self._wrap_model(self.model, training=False),
            batch_size=self.args.eval_batch_size,
            device=self.args.device,
            context=self.compute_loss_context_manager,
            progress=not self.args.disable_tqdm,
            many_processes=True,
        )

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Any = None, **kwargs: Any
    ) -> DataLoader[Any]:
        if kwargs.get("is_training"):
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, **kwargs)
        sized = has_length(dataset) and not isinstance(dataset, IterableDataset)
        collator = self._get_collator_with_removed_columns(self.data_collator, description=description)
        # Streams: one worker, since several would read the same examples or change their order; and each process takes
        # its share by example, since the batches that accelerate would dispatch must have one length.
        workers = self.args.dataloader_num_workers if sized else min(1, self.args.dataloader_num_workers)
        with (
            replaced(self, data_collator=NumberedCollator(collator)),
            replaced(
                self.args,
                remove_unused_columns=False,
                dataloader_num_workers=workers,
                dataloader_drop_last=False,
                # The Trainer would keep the loader, and give it back for another dataset.
                dataloader_persistent_workers=False,
            ),
            # Equally many batches on all processes, which models with sharded parameters need.
            replaced(self.accelerator.dataloader_config, dispatch_batches=False, even_batches=True),
        ):
            return super()._get_dataloader(
                NumberedRows(dataset) if sized else NumberedStream(dataset),
                description,
                batch_size,
                None if sampler_fn is None else lambda _: sampler_fn(dataset),
                **kwargs,
            )
