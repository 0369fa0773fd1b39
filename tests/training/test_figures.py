"""Figures are told only where they are those of the weights that are saved."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from hf_contrastive.training.figures import figures_before, figures_of_weights, measures_in, step_of_weights
from tests.training.test_training_args import make


IN_TRAINING = [
    {"step": 0, "eval_loss": 9.0},
    {"step": 2, "eval_loss": 2.0},
    {"step": 4, "eval_loss": 4.0},
]
END, AFTER = {"step": 4, "train_runtime": 1.0}, {"step": 4, "eval_loss": 5.0}


def figures(
    folder: Path, logs: list[dict[str, float]], *, step: int = 4, best: int | None = None, **options: Any
) -> Any:
    state = TrainerState(global_step=step, log_history=logs)
    if best is not None:
        state.best_model_checkpoint = str(folder / f"checkpoint-{best}")
        options |= {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    found = figures_of_weights(state, make(folder, **options), "eval")
    return None if found is None else found["loss"]


@pytest.mark.parametrize("logs", [IN_TRAINING, [*IN_TRAINING, END]])
def test_figures_are_those_of_the_last_step(logs: list[dict[str, float]], tmp_path: Path):
    assert figures(tmp_path, logs) == 4.0


def test_an_evaluation_after_training_is_told_rather_than_one_of_its_last_step(tmp_path: Path):
    assert figures(tmp_path, [*IN_TRAINING, END, AFTER]) == 5.0


def test_figures_of_an_earlier_step_are_not_those_of_the_weights(tmp_path: Path):
    assert figures(tmp_path, [*IN_TRAINING, {"step": 5, "train_runtime": 1.0}], step=5) is None


def test_an_untrained_model_has_the_figures_of_step_0(tmp_path: Path):
    assert figures(tmp_path, IN_TRAINING[:1], step=0) == 9.0


def test_the_best_model_has_the_figures_of_its_checkpoint(tmp_path: Path):
    assert figures(tmp_path, [*IN_TRAINING, END], best=2) == 2.0
    assert figures(tmp_path, [*IN_TRAINING, END, AFTER], best=2) == 5.0
    # It is loaded when training ends.
    assert figures(tmp_path, IN_TRAINING, best=2) == 4.0


@pytest.mark.parametrize(
    ("saves", "evaluates", "at_the_last_step", "after"),
    [(True, True, 4.0, 5.0), (True, False, None, 5.0), (False, True, None, None), (False, False, 4.0, 5.0)],
)
def test_figures_of_an_average_are_told_where_it_is_saved(
    saves: bool, evaluates: bool, at_the_last_step: float | None, after: float | None, tmp_path: Path
):
    options = {"ema_decay": 0.9, "save_ema": saves, "evaluate_ema": evaluates}
    assert figures(tmp_path, [*IN_TRAINING, END], **options) == at_the_last_step
    assert figures(tmp_path, [*IN_TRAINING, END, AFTER], **options) == after


def test_weights_are_of_the_last_step_until_the_best_are_loaded(tmp_path: Path):
    state = TrainerState(global_step=4, best_model_checkpoint=str(tmp_path / "checkpoint-2"))
    args = make(tmp_path, load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps")
    assert step_of_weights(state, args) == 4
    state.log_history = [END]
    assert step_of_weights(state, args) == 2


def test_the_first_figures_are_those_of_step_0():
    assert figures_before(TrainerState(log_history=IN_TRAINING), "eval") == {"loss": 9.0}
    assert figures_before(TrainerState(log_history=IN_TRAINING[1:]), "eval") is None


def test_measures_are_those_under_their_own_prefix():
    metrics = {"eval_a_loss": 1.0, "eval_a_retrieval/mrr": 0.5, "eval_a_runtime": 3.0, "epoch": 1.0}
    assert measures_in(metrics, "eval_a") == {"loss": 1.0, "retrieval/mrr": 0.5}
    assert measures_in(metrics, "eval") == {}
