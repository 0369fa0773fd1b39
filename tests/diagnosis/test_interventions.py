"""Interventions: halves that share nothing, the same measures on the same rows, and what each should do."""

import math

import pytest
import torch
import torch.nn.functional as F

from hf_contrastive.diagnosis import Diagnosis, interventions
from hf_contrastive.diagnosis.interventions import contrastive_loss, split_items, try_interventions
from hf_contrastive.diagnosis.linear_head import apply_heads, train_heads
from hf_contrastive.diagnosis.result import Trials
from hf_contrastive.functional import mean_shift, shift_along_gap, whitening
from hf_contrastive.losses import get_loss
from hf_contrastive.metrics import geometry_report, retrieval_report
from tests.diagnosis.conftest import ROWS, clouds


GAP = "geometry/modality_gap_image_text"


@pytest.fixture(scope="module")
def trials(diagnosis: Diagnosis) -> Trials:
    return diagnosis.pair("image", "text").trials


def named(trials: Trials, name: str) -> dict[str, float]:
    return next(trial.metrics for trial in trials.interventions if trial.name == name)


# ---- Halves ----


def test_every_row_is_in_one_half_and_the_halves_depend_on_the_seed():
    first, second = split_items(21, None, 0)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(21))
    assert (len(first), len(second)) == (10, 11)
    assert split_items(21, None, 0)[0].tolist() == first.tolist() != split_items(21, None, 1)[0].tolist()


def test_rows_that_show_the_same_are_in_one_half():
    ids = torch.tensor([7, 3, 9, 1, 5, 12, 0, 4, 8, 2] * 4)
    first, second = split_items(40, ids, 0)
    assert not set(ids[first].tolist()) & set(ids[second].tolist())
    assert len(first) + len(second) == 40


@pytest.mark.parametrize(("number", "ids"), [(9, None), (40, torch.zeros(40, dtype=torch.long))])
def test_halves_that_are_too_small_are_refused(number: int, ids: torch.Tensor | None):
    with pytest.raises(
        ValueError, match=r"each needs 5 items, but \d+ rows that show \d+ things have halves of \d and"
    ):
        split_items(number, ids, 0)


def test_many_rows_are_cut_to_whole_items(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interventions, "MAX_ROWS", 20)
    rows = interventions._subset(60, torch.arange(60) // 5, 0)
    assert rows.tolist() == sorted(rows.tolist())
    assert torch.bincount(torch.div(rows, 5, rounding_mode="floor")).unique().tolist() == [0, 5]
    assert len(interventions._subset(60, None, 0)) == 20


# ---- What is measured ----


def test_the_first_trial_is_the_measured_half_as_it_is(trials: Trials):
    fitted, measured = split_items(ROWS, None, 0)
    assert (trials.fitted_rows, trials.measured_rows) == (len(fitted), len(measured))
    half = {m: x[measured] for m, x in clouds().items()}
    expected = geometry_report(half, separability=True) | retrieval_report(half)
    assert trials.interventions[0].name == "none"
    assert trials.interventions[0].metrics == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["mean_shift", "whitening", "along the gap", "linear_head"])
def test_everything_is_fitted_on_the_other_half(trials: Trials, name: str):
    fitted, measured = split_items(ROWS, None, 0)
    first, second = ({m: x[half] for m, x in clouds().items()} for half in (fitted, measured))
    if name == "linear_head":
        actual = trials.interventions[-1].metrics
        options = {"scale": 1 / trials.temperatures.best, "steps": 60}
        changed = apply_heads(train_heads(first, get_loss("clip_divergence", weight=1.0), **options), second)
    else:
        actual = trials.shift_curve[0.3] if name == "along the gap" else named(trials, name)
        maps = {
            "mean_shift": lambda: [mean_shift(x) for x in first.values()],
            "whitening": lambda: [whitening(x, shrinkage=0.1) for x in first.values()],
            "along the gap": lambda: shift_along_gap(*first.values(), 0.3),
        }[name]()
        changed = {m: map_.apply(x) for map_, (m, x) in zip(maps, second.items(), strict=True)}
    expected = geometry_report(changed, separability=True) | retrieval_report(changed)
    assert actual == pytest.approx(expected, abs=1e-4)


def test_the_best_temperature_is_that_of_the_other_half(trials: Trials):
    fitted, measured = split_items(ROWS, None, 0)
    first, second = ({m: F.normalize(x[half], dim=1) for m, x in clouds().items()} for half in (fitted, measured))
    best = trials.temperatures.best
    around = [contrastive_loss(first, None, 1 / (best * factor)) for factor in (0.94, 1.0, 1.06)]
    assert min(around) == around[1]
    assert trials.temperatures.loss_at_best == pytest.approx(contrastive_loss(second, None, 1 / best), abs=1e-5)


def test_every_trial_has_the_same_measures(trials: Trials):
    every = [trial.metrics for trial in trials.interventions] + list(trials.shift_curve.values())
    assert {frozenset(metrics) for metrics in every} == {frozenset(every[0])}
    for name in ("uniformity_image", "modality_gap_image_text", "separability_image_text"):
        assert f"geometry/{name}" in every[0]
    assert "retrieval/text_to_image_recall@1" in every[0]


def test_shift_and_whitening_close_a_gap_between_centers(trials: Trials):
    before = named(trials, "none")
    assert before[GAP] > 0.8
    for name in ("mean_shift", "whitening"):
        after = named(trials, name)
        assert after[GAP] < 0.4
        assert after["geometry/separability_image_text"] < before["geometry/separability_image_text"] - 0.2
        assert after["retrieval/image_to_text_recall@1"] > before["retrieval/image_to_text_recall@1"]


def test_the_curve_stays_at_zero_and_is_least_where_the_centers_meet(trials: Trials):
    assert list(trials.shift_curve) == [step / 10 for step in range(-10, 11)]
    assert trials.shift_curve[0.0] == pytest.approx(named(trials, "none"), abs=1e-5)
    assert min(trials.shift_curve, key=lambda fraction: trials.shift_curve[fraction][GAP]) in (0.4, 0.5, 0.6)
    assert trials.shift_curve[-1.0][GAP] > trials.shift_curve[0.0][GAP]


def test_more_divergence_in_the_loss_leaves_less_of_a_gap(trials: Trials):
    heads = {t.settings["weight"]: t for t in trials.interventions if t.name == "linear_head"}
    assert list(heads) == [0.0, 0.25, 0.5, 1.0]
    assert heads[1.0].metrics[GAP] < heads[0.0].metrics[GAP]
    assert all("linear head" in head.note.lower() and "frozen" in head.note for head in heads.values())
    assert {head.settings["logit_scale"] for head in heads.values()} == {1 / trials.temperatures.best}


# ---- Temperature ----


def test_the_loss_at_a_temperature_is_cross_entropy_of_both_directions():
    x = {m: F.normalize(z.double(), dim=1) for m, z in clouds(rows=12).items()}
    logits, labels = 7.0 * x["image"] @ x["text"].T, torch.arange(12)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert contrastive_loss(x, None, 7.0) == pytest.approx(float(expected), abs=1e-9)


def test_the_loss_goes_from_chance_to_a_minimum_and_the_softmax_from_all_to_one(trials: Trials):
    t = trials.temperatures
    assert t.chance == pytest.approx(math.log(trials.measured_rows))
    assert min(t.temperatures) < t.best < max(t.temperatures)
    assert t.loss_at_best == pytest.approx(min(t.loss), abs=0.15)
    assert list(t.perplexity) == sorted(t.perplexity)
    assert 1 <= t.perplexity[0] < 2
    assert t.perplexity[-1] > trials.measured_rows / 3
    assert t.own is t.loss_at_own is None


@pytest.mark.usefixtures("quick")
def test_the_models_temperature_stands_beside_the_best():
    found = try_interventions(clouds(rows=20), logit_scale=50.0)
    assert found.temperatures.own == pytest.approx(0.02)
    assert found.temperatures.loss_at_own > found.temperatures.loss_at_best
    assert found.interventions[-1].settings["logit_scale"] == 50.0


@pytest.mark.usefixtures("quick")
def test_a_bar_counts_the_trials(capsys: pytest.CaptureFixture[str]):
    try_interventions(clouds(rows=20), progress=True)
    # Three maps, two heads, three fractions.
    assert "interventions:   0%|          | 0/8" in capsys.readouterr().err


# ---- Unusual clouds ----


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_done_to_a_collapsed_cloud_says_why():
    found = try_interventions({"image": torch.ones(20, 4), "text": clouds(rows=20, width=4)["text"]})
    by_name = {trial.name: trial for trial in found.interventions}
    assert by_name["none"].metrics
    assert by_name["mean_shift"].metrics == by_name["whitening"].metrics == {}
    assert by_name["mean_shift"].note.startswith("Could not be done. `x` holds rows of zeros")
    assert "is singular" in by_name["whitening"].note


@pytest.mark.usefixtures("quick")
def test_one_seed_gives_one_result_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second = (try_interventions(clouds(rows=24), seed=4) for _ in range(2))
    assert first == second
    assert torch.get_rng_state().equal(state)
