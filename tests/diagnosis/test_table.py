"""Tables: every number beside its reference, whole rows."""

from dataclasses import replace

import pytest

from hf_contrastive.diagnosis import Diagnosis
from hf_contrastive.diagnosis.table import as_text, short_name, tables


def test_tables_are_rectangular_and_compare_side_by_side(diagnosis: Diagnosis):
    assert [table.title for table in tables(diagnosis)] == [
        "Measures",
        "What parts image and text",
        "Interventions on image and text, embeddings (1)",
        "Interventions on image and text, embeddings (2)",
        "Temperature of image and text",
    ]
    found = {table.title: table for table in tables(diagnosis)}
    for table in found.values():
        assert {len(row) for row in table.rows} == {len(table.head)}
    rows = {row[0]: row[1:] for row in found["Measures"].rows}
    for column, one in enumerate(diagnosis.all):
        gap, floor = (one.metrics[f"geometry/modality_gap_{name}image_text"] for name in ("", "floor_"))
        assert rows["modality gap image text"][column] == f"{gap:.3f} ({floor:.3f})"
        recall = one.metrics["retrieval/image_to_text_recall@1"]
        assert rows["image to text, R@1"][column] == f"{recall:.3f}"


def test_an_intervention_that_could_not_be_done_has_dashes(diagnosis: Diagnosis):
    pair = diagnosis.pairs[0]
    undone = tuple(
        replace(trial, metrics={}) if trial.name == "whitening" else trial for trial in pair.trials.interventions
    )
    pair = replace(pair, trials=replace(pair.trials, interventions=undone))
    table = next(t for t in tables(replace(diagnosis, pairs=(pair,), compared=None)) if "Interventions" in t.title)
    assert {row[0]: row[1:] for row in table.rows}["whitening"] == ("-",) * 6


def test_text_is_padded(diagnosis: Diagnosis):
    lines = as_text(tables(diagnosis)[0]).splitlines()
    assert lines[0] == "Measures"
    assert len({len(line) for line in lines[2:6]}) == 1


@pytest.mark.parametrize(("name", "short"), [("a/b", "b"), ("/x/y/", "y"), ("clip", "clip"), ("/", "/")])
def test_names_are_shortened(name: str, short: str):
    assert short_name(name) == short
