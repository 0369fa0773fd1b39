"""Which figures of a run's evaluations are those of the weights that it saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState

from hf_contrastive.training.training_args import ContrastiveTrainingArguments


# What the Trainer logs once, when training ends: after it, weights are those of the best checkpoint or averages.
ENDED = "train_runtime"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation was of: how its metrics begin, its data, and how many rows of it were measured."""

    prefix: str
    dataset: Any
    rows: int


def step_of_weights(state: TrainerState, args: ContrastiveTrainingArguments) -> int:
    """The step that a run's weights are of: with `load_best_model_at_end`, after training, that of the best checkpoint."""
    best = state.best_model_checkpoint if args.load_best_model_at_end and _end(state.log_history) else None
    return state.global_step if best is None else int(Path(best).name.rpartition("-")[2])


def figures_of_weights(
    state: TrainerState, args: ContrastiveTrainingArguments, prefix: str
) -> dict[str, float] | None:
    """
    The latest measures in the logs of a run that are of its weights as they are saved; None where there are none.

    Args:
        state: State of the run, with its logs.
        args: Its arguments.
        prefix: What the names of the measures begin with.
    """
    logs, end, step = state.log_history, _end(state.log_history), step_of_weights(state, args)
    after = [found for log in logs[end:] if (found := measures_in(log, prefix))] if end else []
    if after:
        # The average is the model by now, or it was measured in place of the model.
        return after[-1] if args.save_ema or not args.evaluate_ema else None
    at_step = [found for log in logs if log["step"] == step and (found := measures_in(log, prefix))]
    saves_average, measured_average = bool(args.save_ema and end), bool(args.evaluate_ema and step)
    return at_step[-1] if at_step and saves_average == measured_average else None


def figures_before(state: TrainerState, prefix: str) -> dict[str, float] | None:
    """The measures of before the first step, where they were taken."""
    return next((found for log in state.log_history if not log["step"] and (found := measures_in(log, prefix))), None)


def measures_in(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The measures of a model among the metrics of one evaluation, without their prefix and without times."""
    # Each evaluation has a loss; a name that begins alike is that of another one.
    if f"{prefix}_loss" not in metrics:
        return {}
    found = {key.removeprefix(f"{prefix}_"): value for key, value in metrics.items() if key.startswith(f"{prefix}_")}
    return {key: value for key, value in found.items() if "/" in key or key in ("loss", "logit_scale", "logit_bias")}


def _end(logs: Sequence[Mapping[str, float]]) -> int:
    """How many logs there were when training ended, 0 if it has not."""
    return max((number for number, log in enumerate(logs, start=1) if ENDED in log), default=0)
