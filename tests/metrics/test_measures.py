"""One scheme of names, and what each value is read beside."""

from pathlib import Path

import pytest

from hf_contrastive import metrics
from hf_contrastive.metrics import full_geometry_report, load_metric
from hf_contrastive.metrics.measures import COUNTS, MEASURES, by_group, read_key
from tests.functional.rows import random_rows


EMBEDS = {"image": random_rows(30, 6), "text": random_rows(30, 6, seed=1), "view_1": random_rows(30, 6, seed=2)}


def test_every_key_of_a_report_is_a_measure_a_reference_or_a_count():
    report = full_geometry_report(EMBEDS, max_rows=20)
    readings = [reading for key in report if (reading := read_key(key))]
    references = {reading.reference for reading in readings if reading.reference}
    counts = {f"geometry/{name}_{m}" for name in COUNTS for m in EMBEDS}
    assert {reading.key for reading in readings} | references | counts == set(report)
    assert {reading.measure.name for reading in readings} == {measure.name for measure in MEASURES}


@pytest.mark.parametrize(
    ("key", "label", "kind", "reference"),
    [
        ("modality_gap_image_text", "modality gap image text", "floor", "modality_gap_floor_image_text"),
        ("uniformity_image", "uniformity image", "floor", "uniformity_floor"),
        ("uniformity_ratio_view_1", "uniformity ratio view 1", "even 1", None),
        (
            "matched_cosine_mean_image_text",
            "matched cosine mean image text",
            "unmatched",
            "unmatched_cosine_mean_image_text",
        ),
        (
            "matched_cosine_std_image_text",
            "matched cosine std image text",
            "unmatched",
            "unmatched_cosine_std_image_text",
        ),
        (
            "hubness_skewness_image_to_text",
            "hubness skewness image to text",
            "chance",
            "hubness_skewness_chance_image_to_text",
        ),
        ("energy_distance_a_b", "energy distance a b", "deviation of chance", "energy_distance_null_std_a_b"),
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
        "geometry/quadratic_rows_image",
        "geometry/gaussianity_rows_view_1",
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
    keys = ["hubness_skewness_a_to_b", "modality_gap_a_b", "alignment_a_b", "modality_gap_a_b", "uniformity_a"]
    readings = by_group(reading for key in keys if (reading := read_key(f"geometry/{key}")))
    assert [r.measure.name for r in readings] == ["alignment", "modality_gap", "uniformity", "hubness_skewness"]


# `evaluate` modules whose values logs and evaluations have too, and what of a key they leave out.
MODULES = {
    "alignment": "_image_text",
    "centroid_gap": "_image_text",
    "cosine_similarity": "_image_text",
    "energy_distance": "_image_text",
    "frechet_distance": "_image_text",
    "gaussianity": "_image",
    "hubness": "_image_to_text",
    "isotropy": "_image",
    "modality_gap": "_image_text",
    "modality_separability": "_image_text",
    "smoothed_divergence": "_image_text",
    "spectrum": "_image",
    "uniformity": "_image",
}


@pytest.mark.parametrize("name", [name for name in MODULES if (Path(metrics.__file__).parent / name).is_dir()])
def test_evaluate_modules_have_the_names_without_modalities(name: str):
    embeds = {m: EMBEDS[m] for m in ("image", "text")}
    given = {"predictions": embeds["image"], "references": embeds["text"]}
    module = load_metric(name)
    found = module.compute(**{key: x for key, x in given.items() if key in module.features})
    report = full_geometry_report(embeds)
    shared = {
        key for value in found for key in (f"geometry/{value}{MODULES[name]}", f"geometry/{value}") if key in report
    }
    assert shared
    for key in shared:
        value = found[key.removeprefix("geometry/").removesuffix(MODULES[name])]
        assert report[key] == pytest.approx(value, rel=1e-5, abs=1e-7), key
