"""Limits that the numbers of a run tell."""

from dataclasses import replace

import pytest

from hf_contrastive.report.facts import Sharing, TrainingFacts
from hf_contrastive.report.limits import limits
from hf_contrastive.report.result import RunResult
from tests.report.runs import METRICS, make_result


def facts(**changed: object) -> TrainingFacts:
    defaults = {"dataset": "scenes", "train_rows": 640, "base_model": None, "modalities": ("image", "text")}
    return TrainingFacts(**{**defaults, "model_type": "clip", **changed})  # type: ignore[arg-type]


def result(name: str = "clip", rows: int = 1000, **metrics: float) -> RunResult:
    named = {key.replace("__", "/").replace("_at_", "@"): value for key, value in metrics.items()}
    return replace(make_result(name), metrics=METRICS | named, test_rows=rows)


def text(*results: RunResult, **options: float) -> str:
    return "\n".join(limits(results, facts(), **options))


def test_the_size_of_the_pool_and_its_chance_are_told():
    assert "among 1,000 candidates" in text(result())
    assert "chance of R@1 is 0.001" in text(result())


def test_other_data_than_that_of_training_is_told():
    assert (
        "rows of flickr alone, other data than the training data"
        in limits([result()], facts(test_dataset="flickr"))[0]
    )
    assert "alone, data like the training data" in text(result())


def test_the_standard_error_is_that_of_a_share():
    # sqrt(0.4 * 0.6 / 1000) of the recall nearer to a half.
    assert "standard error of 0.015 at" in text(result())


@pytest.mark.parametrize(("other", "said"), [(0.41, "cannot be told from `base`"), (0.6, "worse than `base`: -0.200")])
def test_a_difference_is_told_by_its_standard_error(other: float, said: str):
    base = result("base", **{"retrieval__image_to_text_recall_at_1": other})
    assert said in text(result(), base)


def test_a_clear_gain_is_no_limit():
    values = {f"retrieval__{d}_recall_at_1": 0.1 for d in ("image_to_text", "text_to_image")}
    assert "`base`" not in text(result(), result("base", **values))


def test_a_gap_above_sampling_is_told():
    assert "A gap of 0.250 parts image and text, 2.0 times what sampling shows" in text(result())


def test_a_closed_gap_does_not_hide_what_a_line_still_tells():
    said = text(result(geometry__modality_gap_image_text=0.12))
    assert "parts image and text" not in said
    assert "a linear rule still tells the modality of 75%" in said


def test_a_scale_at_its_bound_is_told():
    assert "upper bound of 50" in text(result(), max_logit_scale=50.0)
    assert "upper bound" not in text(result(), max_logit_scale=100.0)


def test_an_unstated_language_is_told():
    assert "language of the texts was not stated" in text(result())
    assert not any("language" in limit for limit in limits([result()], facts(sharing=Sharing(language=["en"]))))
