"""Every rule of the diagnosis: when it speaks, when it is silent, and what it says."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from hf_contrastive.diagnosis import Diagnosis, diagnose
from hf_contrastive.diagnosis.findings import modality_facts, pair_facts
from hf_contrastive.diagnosis.rules import RULES, SEVERITIES, Rule
from tests.diagnosis.conftest import ROWS, WIDTH


BY_NAME = {rule.name: rule for rule in RULES}
PAIR: dict[str, Any] = {
    "about": "image_text", "first": "image", "second": "text", "gap": 0.03, "gap_floor": 0.03, "gap_ratio": 1.0,
    "separability": 0.8, "centers_share": 0.5, "spread_share": 0.1, "spectrum_share": 0.1, "orientation_share": 0.3,
    "total_share": 1.0, "r1": 0.5, "r1_forward": 0.5, "r1_backward": 0.5, "r1_error": 0.01, "chance": 0.001,
    "matched": 0.5, "permuted": 0.1, "r1_none": 0.5, "gap_none": 0.4, "trial_floor": 0.045, "gap_mean_shift": 0.05, "r1_mean_shift": 0.5,
    "r1_whitening": 0.5, "cosine_error": 0.0, "collapsed": False, "loss_of_chance": 6.9, "trial_error": 0.02, "head_weight": 0.25, "head_gap": 0.4, "head_gap_clip": 0.4, "head_r1": 0.5,
    "head_r1_clip": 0.5, "own": 0.01, "best": 0.01, "loss_at_own": 2.0, "loss_at_best": 2.0,
}  # fmt: skip
MODALITY: dict[str, Any] = {
    "about": "text", "rows": 1000, "width": 100, "rows_wanted": 400, "rank_most": 100, "uniformity": -3.0,
    "uniformity_floor": -3.9, "effective_rank": 50.0, "center_share": 0.1, "copies": 0.0, "has_ids": False,
}  # fmt: skip
OPEN = {"gap": 0.4, "gap_ratio": 13.3, "separability": 1.0}
# What each rule must react to, and what it must not.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no_retrieval": (
        {"r1": 0.002, "r1_error": 0.001, "matched": 0.1},
        {"r1": 0.002, "r1_error": 0.001, "matched": 0.3},
        r"no nearer than permuted ones \(cosine 0\.100 against 0\.100\), and R@1 is 0\.002, where chance is 0\.001",
    ),
    "open_gap": (OPEN, OPEN | {"separability": 0.6}, r"0\.400 apart, 13\.3 times.*50% is the shift of the centers, 10% spread"),
    "small_gap": (OPEN | {"separability": 0.6}, OPEN, r"13\.3 times the 0\.030 that sampling makes, but the clouds overlap"),
    "other_shape": ({"separability": 0.9}, {"separability": 0.7}, r"coincide.*tells them apart with an accuracy of 0\.900"),
    "closed_gap": ({"separability": 0.6}, {"separability": 0.6, "collapsed": True}, r"gap between image and text is closed: 0\.030"),
    "shift_helps": ({"r1_mean_shift": 0.55}, {"r1_mean_shift": 0.53}, r"lifts R@1.*from 0\.500 to 0\.550 on unseen rows"),
    "shift_is_free": (OPEN | {"r1_mean_shift": 0.48}, {}, r"from 0\.400 to 0\.050 on unseen rows \(sampling makes 0\.045\).*0\.500 before, 0\.480 after"),
    "shift_costs": ({"r1_mean_shift": 0.45}, {"r1_mean_shift": 0.47}, r"lowers R@1.*from 0\.500 to 0\.450"),
    "whitening_helps": ({"r1_whitening": 0.6}, {"r1_whitening": 0.4}, r"Whitening lifts R@1.*to 0\.600"),
    "divergence_closes": (
        OPEN | {"head_gap": 0.1},
        OPEN | {"head_gap": 0.1, "head_r1": 0.4},
        r"at weight 0\.25 has a gap of 0\.100.*leaves 0\.400",
    ),
    "temperature_off": ({"loss_at_own": 2.5}, {"loss_at_own": 9.5, "loss_at_best": 6.9}, r"temperature of 0\.0100.*is 2\.500; at 0\.0100"),
    "uneven_directions": ({"r1_forward": 0.6}, {"r1_forward": 0.53}, r"0\.600 from image to text and 0\.500 back"),
    "collapse": ({"uniformity": -0.2}, {"uniformity": -1.5}, r"Text covers little of the sphere: uniformity -0\.20.*-3\.90"),
    "cone": ({"center_share": 0.8}, {"center_share": 0.4}, r"80% of the energy of text"),
    "few_directions": ({"effective_rank": 5.0}, {"effective_rank": 20.0}, r"Text uses 5\.0 directions of the 100"),
    "copies": ({"copies": 0.2}, {"copies": 0.2, "has_ids": True}, r"20% of the rows of text are copies"),
    "few_rows": ({"rows": 150}, {"rows": 250}, r"150 rows of width 100 are few"),
}  # fmt: skip


def facts_of(rule: Rule) -> dict[str, Any]:
    return PAIR if rule.scope == "pair" else MODALITY


def test_every_rule_has_a_case_a_known_severity_and_a_name_of_its_own():
    assert set(CASES) == set(BY_NAME)
    assert len(BY_NAME) == len(RULES)
    assert {rule.severity for rule in RULES} <= set(SEVERITIES)
    assert all(rule.advice or rule.severity == "good" for rule in RULES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_speaks_of_its_case_and_is_silent_otherwise(name: str):
    rule, (case, other, sentence) = BY_NAME[name], CASES[name]
    facts = facts_of(rule) | case
    assert rule.applies(facts)
    assert not rule.applies(facts_of(rule) | other)
    says = rule.says.format(**facts)
    assert re.search(sentence, says[:1].upper() + says[1:])
    assert "{" not in rule.advice.format(**facts)


def test_an_intervention_that_could_not_be_done_is_not_spoken_of():
    facts = PAIR | OPEN | {"r1_mean_shift": float("nan"), "r1_whitening": float("nan")}
    spoken = {rule.name for rule in RULES if rule.scope == "pair" and rule.applies(facts)}
    assert not spoken & {"shift_helps", "shift_costs", "shift_is_free", "whitening_helps"}


@pytest.mark.parametrize("rows", [50, 400])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_do_not_match_are_found_out_however_few(quick: None, rows: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(rows, WIDTH, generator=generator) for _ in range(2))
    found = diagnose({"image": x, "text": y})
    assert "no_retrieval" in {finding.rule for finding in found.findings}


def test_every_gap_is_spoken_of_once():
    for gap in (0.03, 0.4):
        for separability in (0.6, 0.9):
            facts = PAIR | {"gap": gap, "separability": separability}
            names = ("open_gap", "small_gap", "other_shape", "closed_gap")
            assert sum(BY_NAME[name].applies(facts) for name in names) == 1


def test_the_error_of_trials_is_that_of_the_things_that_were_measured(diagnosis: Diagnosis):
    pair = diagnosis.pairs[0]
    few = replace(pair, trials=replace(pair.trials, measured_items=25))
    r1 = pair_facts(diagnosis.metrics, pair, items=ROWS)["r1_none"]
    # As of 20,000 items, of which 4,000 rows at most are intervened on.
    error = pair_facts(diagnosis.metrics, few, items=250 * ROWS)["trial_error"]
    assert error == pytest.approx((2 * r1 * (1 - r1) / 25) ** 0.5)


def test_centers_that_sampling_could_not_move_have_a_ratio(diagnosis: Diagnosis):
    metrics = diagnosis.metrics | {
        "geometry/modality_gap_floor_image_text": 0.0,
        "geometry/modality_gap_image_text": 0.0,
    }
    assert pair_facts(metrics, diagnosis.pairs[0], items=ROWS)["gap_ratio"] == 0


def test_facts_are_what_was_measured(diagnosis: Diagnosis):
    pair = diagnosis.pair("text", "image")
    facts = pair_facts(diagnosis.metrics, pair, items=ROWS)
    assert set(facts) == set(PAIR)
    assert facts["gap"] == diagnosis.metrics["geometry/modality_gap_image_text"]
    assert facts["chance"] == pytest.approx(1 / ROWS)
    assert facts["trial_floor"] == pair.trials.interventions[0].metrics["geometry/modality_gap_floor_image_text"]
    assert facts["r1"] == (facts["r1_forward"] + facts["r1_backward"]) / 2
    r1 = facts["r1"]
    assert facts["r1_error"] == pytest.approx((r1 * (1 - r1) / ROWS) ** 0.5)
    heads = {t.settings["weight"]: t.metrics for t in pair.trials.interventions if t.name == "linear_head"}
    assert facts["head_gap"] == heads[facts["head_weight"]]["geometry/modality_gap_image_text"]
    assert facts["head_gap"] == min(heads[w]["geometry/modality_gap_image_text"] for w in (0.25, 0.5, 1.0))
    options = {"rows": ROWS, "width": WIDTH, "center_share": 0.1, "copies": 0.0, "has_ids": False}
    assert set(modality_facts(diagnosis.metrics, "text", **options)) == set(MODALITY)
