"""One scheme of names, and what each value is read beside."""

import pytest

from hf_contrastive.metrics import full_geometry_report, list_metrics, load_metric
from hf_contrastive.metrics.measures import COUNTS, MEASURES, by_group, read_key
from tests.functional.rows import random_rows


EMBEDS = {"image": random_rows(30, 6), "text": random_rows(30, 6, seed=1), "view_1": random_rows(30, 6, seed=2)}


def test_every_key_of_a_report_is_a_measure_a_reference_or_a_count():
    report = full_geometry_report(EMBEDS, max_rows=20)
    readings = [reading for key in report if (reading := read_key(key))]
    references = {reading.reference for reading in readings if reading.reference}
    counts = {f"geometry/{name}" for name in COUNTS}
    assert {reading.key for reading in readings} | references | counts == set(report)
    assert {reading.measure.name for reading in readings} == {measure.name for measure in MEASURES}


@pytest.mark.parametrize(
    ("key", "label", "kind", "reference"),
    [
        ("modality_gap_image_text", "modality gap image text", "floor", "modality_gap_floor_image_text"),
        ("uniformity_image", "uniformity image", "floor", "uniformity_floor"),
        ("uniformity_ratio_view_1", "uniformity ratio view 1", "even 1", None),
        ("matched_cosine_image_text", "matched cosine image text", "unmatched", "unmatched_cosine_image_text"),
        (
            "matched_cosine_std_image_text",
            "matched cosine std image text",
            "unmatched",
            "unmatched_cosine_std_image_text",
        ),
        ("hubness_image_to_text", "hubness image to text", "reference", "hubness_reference_image_to_text"),
        ("separability_image_text", "separability image text", "chance 0.5", None),
        ("centroid_cosine_image_text", "centroid cosine image text", None, None),
    ],
)
def test_a_key_says_what_it_is_read_beside(key: str, label: str, kind: str | None, reference: str | None):
    reading = read_key(f"geometry/{key}")
    assert reading is not None
    assert (reading.label, reading.kind) == (label, kind)
    assert reading.reference == (None if reference is None else f"geometry/{reference}")


@pytest.mark.parametrize(
    "key",
    [
        "geometry/uniformity_floor",
        "geometry/modality_gap_floor_image_text",
        "geometry/unmatched_cosine_std_image_text",
        "geometry/sampled_rows",
        "geometry/tested_rows",
        "geometry/nothing_of_ours",
        "geometry/uniformityimage",
        "retrieval/image_to_text_recall@1",
        "loss",
    ],
)
def test_references_and_strangers_are_no_measures(key: str):
    assert read_key(key) is None


def test_cells_have_value_and_reference_as_far_as_they_are_there():
    reading = read_key("geometry/effective_rank_image")
    assert reading is not None
    assert reading.cell({}) == "-"
    assert reading.cell({reading.key: 6.04}) == "6.0"
    assert reading.cell({reading.key: 6.04, reading.reference: 7.96}) == "6.0 (8.0)"


def test_groups_stay_together_in_the_order_of_the_measures():
    keys = ["hubness_a_to_b", "modality_gap_a_b", "alignment_a_b", "modality_gap_a_b", "uniformity_a"]
    readings = by_group(reading for key in keys if (reading := read_key(f"geometry/{key}")))
    assert [r.measure.name for r in readings] == ["alignment", "modality_gap", "uniformity", "hubness"]


@pytest.mark.parametrize("name", ["modality_gap", "uniformity", "alignment"])
def test_evaluate_modules_have_the_names_without_modalities(name: str):
    assert name in list_metrics()
    rows = {"predictions": EMBEDS["image"], "references": EMBEDS["text"]}
    if name == "uniformity":
        del rows["references"]
    found = load_metric(name).compute(**rows)
    report = full_geometry_report({"image": EMBEDS["image"], "text": EMBEDS["text"]})
    about = "_image" if name == "uniformity" else "_image_text"
    for key, value in found.items():
        if key != "modality_gap_ratio":
            shared = key if key == "uniformity_floor" else key + about
            assert report[f"geometry/{shared}"] == pytest.approx(value, rel=1e-5), key
