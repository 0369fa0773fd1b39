"""Log lines that fit a terminal."""

from typing import Any

import pytest

from hf_contrastive.training.progress import log_line


LOGS = {
    "loss": 2.34567,
    "grad_norm": 1.0,
    "learning_rate": 1e-3,
    "loss/clip": 2.0,
    "loss/divergence": 0.34567,
    "logit_scale": 50.04,
    "geometry/uniformity_image": -2.5,
    "geometry/uniformity_text": -2.25,
    "geometry/uniformity_floor": -3.9,
    "geometry/effective_rank_image": 6.0,
    "geometry/alignment_image_text": 0.5,
    "geometry/modality_gap_image_text": 0.25,
    "geometry/modality_gap_floor_image_text": 0.125,
    "retrieval/image_to_text_recall@1": 0.4,
    "retrieval/image_to_text_recall@10": 0.9,
    "retrieval/text_to_image_recall@1": 0.35,
    "retrieval/text_to_image_median_rank": 2.0,
    "epoch": 0.5,
}


def test_shows_the_most_telling_values():
    assert log_line(LOGS, step=25) == (
        "step    25 | loss 2.346 | clip 2.000 | divergence 0.346 | scale 50.0 | align 0.50 | uniform -2.50/-2.25 | "
        "gap 0.250 | R@1 0.400/0.350"
    )


def test_evaluation_is_told_from_training():
    line = log_line({f"eval_{name}": value for name, value in LOGS.items()} | {"epoch": 0.5}, step=25)
    assert line == log_line(LOGS, step=25).replace("| loss", "| eval_loss")


def test_logs_without_a_loss_show_what_they_hold():
    line = log_line({"train_runtime": 12.3456, "train_samples_per_second": 100.0, "total_flos": 3}, step=7)
    assert line == "step     7 | train_runtime 12.35 | train_samples_per_second 100"


@pytest.mark.parametrize("logs", [{}, {"epoch": 1}], ids=str)
def test_logs_of_nothing_still_make_a_line(logs: dict[str, Any]):
    assert log_line(logs, step=1) == "step     1"


def test_values_that_are_not_finite_are_shown():
    assert log_line({"loss": float("nan"), "logit_scale": float("inf")}, step=1) == "step     1 | loss nan | scale inf"


def test_the_summary_of_training_leads_with_its_loss():
    logs = {"train_runtime": 12.3, "train_samples_per_second": 100.0, "train_loss": 1.5, "epoch": 1.0}
    assert log_line(logs, step=9).startswith("step     9 | train_loss 1.5")
