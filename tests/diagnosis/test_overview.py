"""The top of the page: a verdict that follows from the numbers, values beside references, before and after."""

from dataclasses import replace
from typing import Any

import pytest

from hf_contrastive.diagnosis import Diagnosis
from hf_contrastive.diagnosis.curves import Side, sides_of
from hf_contrastive.diagnosis.overview import _advice, _compared, _state, before_and_after, key_numbers, verdict
from hf_contrastive.diagnosis.table import labels
from tests.diagnosis.test_findings import OPEN, PAIR


@pytest.fixture(scope="module")
def sides(diagnosis: Diagnosis) -> list[Side]:
    return sides_of(diagnosis)


def test_two_models_are_told_apart_in_two_sentences(sides: list[Side]):
    first, second = verdict(sides)
    one, other = (side.one.metrics["geometry/modality_gap_image_text"] for side in sides)
    assert f"embeddings (1) has a gap of {one:.3f}" in first
    assert f"embeddings (2) a gap of {other:.3f}" in first
    assert second.startswith("embeddings (1) leaves the gap open that embeddings (2) has closed, and")


def test_one_model_has_a_state_and_an_advice(sides: list[Side]):
    first, second = verdict(sides[:1])
    assert first.startswith("The gap between image and text is open: ")
    assert second.startswith("A mean shift takes it to ")


@pytest.mark.parametrize(
    ("values", "state", "advice"),
    [
        (OPEN, "is open: 0.400, where sampling alone makes 0.030; R@1 is 0.500", "leaves R@1 what it was, within its error"),
        (OPEN | {"r1_mean_shift": 0.6}, "is open", "takes it to 0.050 on unseen rows, where sampling makes 0.045, and lifts R@1 (0.500 before, 0.600"),
        (OPEN | {"r1_mean_shift": 0.4}, "is open", "would cost R@1 (0.500 before, 0.400 after"),
        (OPEN | {"r1_mean_shift": float("nan")}, "is open", "cannot be centered"),
        ({"separability": 0.9}, "is closed: 0.030", "still tells the modalities apart (0.900 right, chance 0.5): try whitening"),
        ({"separability": 0.6}, "is closed", "Nothing parts the modalities that a shift could mend"),
        ({"separability": 0.6, "r1": 1.0}, "is closed", "rows find their matches: there is nothing to try"),
        ({"separability": 0.6, "collapsed": True}, "is closed", "look at the finding on collapse first"),
        ({"r1": 0.002, "r1_error": 0.001, "matched": 0.1}, "R@1 is 0.002, where chance is 0.001", "Check that row i of both"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_numbers(values: dict[str, Any], state: str, advice: str):
    facts = PAIR | values
    assert state in _state(facts)
    assert advice in _advice(facts)


def test_chance_among_thousands_is_not_zero():
    assert _state(PAIR | {"chance": 1 / 5000}).endswith("where chance is 0.0002.")


@pytest.mark.parametrize(
    ("own", "other", "says"),
    [
        ({}, OPEN, "A has closed the gap that B leaves open, and they retrieve alike: R@1 differs by 0.000, less than"),
        (OPEN, {"r1": 0.4}, "A leaves the gap open that B has closed, and A retrieves better: R@1 differs by 0.100, more than"),
        (OPEN, OPEN | {"r1": 0.6}, "Both leave the gap open, and B retrieves better"),
        ({}, {}, "Both have closed the gap"),
    ],
)  # fmt: skip
def test_a_comparison_follows_from_the_numbers(own: dict[str, Any], other: dict[str, Any], says: str):
    assert _compared(PAIR | own, PAIR | other, "A", "B").startswith(says)


def test_key_numbers_stand_beside_what_they_are_compared_with(sides: list[Side]):
    rows = {row.label: row.cells for row in key_numbers(sides, "image", "text")}
    assert all(len(cells) == 2 and all(cell.reference for cell in cells) for cells in rows.values())
    metrics = sides[1].one.metrics
    assert rows["gap between the centers"][1].value == f"{metrics['geometry/modality_gap_image_text']:.3f}"
    assert (
        rows["gap between the centers"][1].reference
        == f"sampling {metrics['geometry/modality_gap_floor_image_text']:.3f}"
    )
    assert rows["R@10, text to image"][0] == (
        f"{sides[0].one.metrics['retrieval/text_to_image_recall@10']:.3f}",
        "chance 0.125",
    )


def test_interventions_stand_beside_what_was_before(sides: list[Side]):
    rows = {row.label: row.cells for row in before_and_after(sides[0], "image", "text")}
    trials = sides[0].one.pairs[0].trials.interventions
    gaps = {t.name: t.metrics["geometry/modality_gap_image_text"] for t in trials}
    assert [cell.reference for cell in rows["as it is"]] == ["", "", ""]
    assert rows["mean shift"][0] == (f"{gaps['mean_shift']:.3f}", f"{gaps['mean_shift'] - gaps['none']:+.3f}")
    temperature = next(cells for label, cells in rows.items() if label.startswith("temperature to "))
    assert [cell.value for cell in temperature] == [cell.value for cell in rows["as it is"]]
    assert {label for label in rows if label.startswith("linear head, divergence weight ")} == {
        f"linear head, divergence weight {w:g}" for w in (0, 0.25, 0.5, 1)
    }


def test_an_intervention_that_could_not_be_done_has_no_values(sides: list[Side]):
    pair = sides[0].one.pairs[0]
    undone = tuple(replace(t, metrics={}) if t.name == "whitening" else t for t in pair.trials.interventions)
    pair = replace(pair, trials=replace(pair.trials, interventions=undone))
    side = replace(sides[0], one=replace(sides[0].one, pairs=(pair,)))
    rows = {row.label: row.cells for row in before_and_after(side, "image", "text")}
    assert {cell.value for cell in rows["whitening"]} == {"-"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a/clip", "b/siglip"), ["clip", "siglip"]),
        (("a/clip", "b/clip"), ["a/clip", "b/clip"]),
        (("clip", "clip"), ["clip (1)", "clip (2)"]),
    ],
)
def test_models_of_a_page_have_names_of_their_own(diagnosis: Diagnosis, names: tuple[str, str], expected: list[str]):
    assert diagnosis.compared is not None
    two = replace(diagnosis, name=names[0], compared=replace(diagnosis.compared, name=names[1]))
    assert labels(two) == expected
