"""The model card that the trainer writes by itself: what it knows of its run, measured or not."""

from collections.abc import Sequence
from pathlib import Path

from transformers import Trainer
from transformers.trainer_utils import has_length
from transformers.utils import logging

from hf_contrastive.losses import ContrastiveLoss
from hf_contrastive.report.card import write_model_card
from hf_contrastive.report.facts import Sharing
from hf_contrastive.report.result import RunResult, write_results
from hf_contrastive.training.figures import (
    ENDED,
    Evaluation,
    figures_before,
    figures_of_weights,
    measures_in,
    step_of_weights,
)
from hf_contrastive.training.micro_batches import rows_of_all_processes
from hf_contrastive.training.run_facts import names_of, other_name_of, scales_of, training_facts
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)


class CardMixin(Trainer):
    """Trainer whose model card is evidence: towers, objective, negatives, measures before and after, limits."""

    args: ContrastiveTrainingArguments
    loss: ContrastiveLoss
    evaluation: Evaluation | None
    resumed_at: int | None

    def create_model_card(
        self,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """
        Write the card of the model into `output_dir`, and its figures into `metrics.json`.

        They are those of the latest evaluation of the weights that are saved: of the best checkpoint where it was loaded,
        of the moving average where it is the model. An evaluation after training is of those weights. Of several datasets
        the first is told.

        What people wrote into the card stays, see [`~hf_contrastive.report.card.update_card`].

        Args:
            language (`str` or `list[str]`, *optional*):
                ISO 639 codes of the texts' languages.
            license (`str`, *optional*):
                Identifier of the model's licence on the Hub. By default the card says that none was chosen.
            tags (`str` or `list[str]`, *optional*):
                Further tags.
            model_name (`str`, *optional*):
                What the table calls the model. By default the name of its repository or folder.
            finetuned_from (`str`, *optional*):
                Model that the weights came from. By default the name that the model was loaded by.
            tasks (`str` or `list[str]`, *optional*):
                Not used: what the Hub files a model under is found from its towers.
            dataset_tags (`str` or `list[str]`, *optional*):
                Hub ids of the training data.
            dataset (`str` or `list[str]`, *optional*):
                What to call them otherwise. By default what `datasets` calls them.
            dataset_args (`str` or `list[str]`, *optional*):
                Not used.

        Raises:
            ValueError: The licence or language is none that the Hub knows.
        """
        if not self.is_world_process_zero():
            return
        if tasks or dataset_args:
            logger.warning("`tasks` and `dataset_args` are not used: the task is found from the towers of the model.")
        folder = Path(str(self.args.output_dir))
        evaluation, figures = self._measured()
        data, test = self.train_dataset, None if evaluation is None else evaluation.dataset
        facts = training_facts(
            self,
            dataset=_listed(dataset_tags) or _listed(dataset) or names_of(data),
            base_model=finetuned_from or getattr(self.model.config, "_name_or_path", None) or None,
            train_rows=0 if data is None else len(data) if has_length(data) else None,
            test=test,
            test_dataset=None if test is None else other_name_of(test, data),
            sharing=Sharing(license=license, language=_listed(language)),
            tags=_listed(tags),
        )
        result = RunResult(
            name=model_name or (self.args.hub_model_id or folder.resolve().name).rpartition("/")[2],
            loss=repr(self.loss),
            metrics=scales_of(self.accelerator.unwrap_model(self.model), facts.modalities) | figures,
            train_seconds=next((log[ENDED] for log in reversed(self.state.log_history) if ENDED in log), 0.0),
            steps=self.state.global_step,
            batch_size=rows_of_all_processes(self.args),
            seed=self.args.seed,
            test_rows=0 if evaluation is None else evaluation.rows,
            before=self._measured_before(evaluation),
            resumed_at=self.resumed_at,
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_results([result], folder / "metrics.json")
        write_model_card(folder, [result], self.args, facts)

    def _measured(self) -> tuple[Evaluation | None, dict[str, float]]:
        """The latest evaluation of the weights as they are saved, and its figures; None and none if there is none."""
        known = [e for e in (self.evaluation, self._watched()) if e is not None and e.rows]
        for evaluation in known:
            if (found := figures_of_weights(self.state, self.args, evaluation.prefix)) is not None:
                return evaluation, found
        if any(measures_in(log, evaluation.prefix) for evaluation in known for log in self.state.log_history):
            averaged = self.args.ema_decay is not None and self.args.evaluate_ema != self.args.save_ema
            logger.warning(
                f"No evaluation was of the weights that are saved, those of step {step_of_weights(self.state, self.args)}"
                f"{': `evaluate_ema` and `save_ema` differ' * averaged}. The card has no figures; `evaluate` first."
            )
        return None, {}

    def _watched(self) -> Evaluation:
        """What is evaluated during training, of several datasets the first. It has no rows where they were not counted."""
        prefix, rows = "eval", self.eval_dataset
        if isinstance(rows, dict):
            name, rows = next(iter(rows.items()))
            prefix = f"eval_{name}"
        return Evaluation(prefix, rows, len(rows) if has_length(rows) else 0)

    def _measured_before(self, evaluation: Evaluation | None) -> dict[str, float] | None:
        """The figures of before training, of the same data."""
        if evaluation is None or evaluation.dataset is not self._watched().dataset or not self.state.global_step:
            return None
        return figures_before(self.state, evaluation.prefix)


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])
