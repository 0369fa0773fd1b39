"""The model card that the trainer writes by itself: what it knows of its run, measured or not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import has_length
from transformers.utils import logging

from hf_contrastive.losses import ContrastiveLoss
from hf_contrastive.report.card import write_model_card
from hf_contrastive.report.facts import Sharing
from hf_contrastive.report.result import RunResult, write_results
from hf_contrastive.training.micro_batches import rows_of_all_processes
from hf_contrastive.training.run_facts import plain_rows, training_facts
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)

# What `datasets` calls files that say nothing of what is in them.
_FORMATS = (
    "csv",
    "json",
    "pandas",
    "parquet",
    "text",
    "generator",
    "imagefolder",
    "audiofolder",
    "webdataset",
    "arrow",
)


class CardMixin(Trainer):
    """Trainer whose model card is evidence: towers, objective, negatives, measures before and after, limits."""

    args: ContrastiveTrainingArguments
    loss: ContrastiveLoss
    evaluated_rows: dict[str, int]

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
        Write the card of the model into `output_dir`, with the figures of the latest evaluation, and `metrics.json`.

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
        result = self._result(model_name or (self.args.hub_model_id or folder.resolve().name).rpartition("/")[2])
        facts = training_facts(
            self,
            dataset=_listed(dataset_tags) or _listed(dataset) or _names_of(self.train_dataset),
            base_model=finetuned_from or getattr(self.model.config, "_name_or_path", None) or None,
            train_rows=len(self.train_dataset) if has_length(self.train_dataset) else None,
            test=self._watched()[1],
            sharing=Sharing(license=license, language=_listed(language)),
            tags=_listed(tags),
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_results([result], folder / "metrics.json")
        write_model_card(folder, [result], self.args, facts)

    def _watched(self) -> tuple[str, Any]:
        """What metrics of the evaluation begin with, and its data: the first, where there are several."""
        if isinstance(self.eval_dataset, dict):
            name, rows = next(iter(self.eval_dataset.items()))
            return f"eval_{name}", rows
        return "eval", self.eval_dataset

    def _result(self, name: str) -> RunResult:
        """The run and its evaluations so far, as its logs tell them."""
        prefix, rows = self._watched()
        logs: list[dict[str, Any]] = self.state.log_history
        measured = [(log["step"], found) for log in logs if (found := _measures(log, f"{prefix}_"))]
        at_last: dict[str, float] = next((found for step, found in reversed(measured) if step), {})
        before = next((found for step, found in measured if not step), None)
        scales = [{k: v for k, v in log.items() if k.partition("/")[0] == "logit_scale"} for log in logs]
        return RunResult(
            name=name,
            loss=repr(self.loss),
            metrics=next((found for found in reversed(scales) if found), {}) | at_last,
            train_seconds=next((log["train_runtime"] for log in reversed(logs) if "train_runtime" in log), 0.0),
            steps=self.state.global_step,
            batch_size=rows_of_all_processes(self.args),
            seed=self.args.seed,
            test_rows=self.evaluated_rows.get(prefix, len(rows) if has_length(rows) else 0) if at_last else 0,
            before=before if at_last else None,
        )


def _measures(log: Mapping[str, Any], prefix: str) -> dict[str, float]:
    found = {key.removeprefix(prefix): value for key, value in log.items() if key.startswith(prefix)}
    return {key: value for key, value in found.items() if "/" in key or key in ("loss", "logit_scale")}


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])


def _names_of(dataset: Any) -> list[str]:
    """What `datasets` calls the data, where that says more than how it is stored."""
    rows = plain_rows(dataset)
    name = None if rows is None else rows.info.dataset_name or rows.info.builder_name
    return [name] if name and name not in _FORMATS else ["data of the author's own"]
