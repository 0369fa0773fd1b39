"""Everything that an evaluation measures: the functions' own values, under their names, for any set."""

import math

import pytest
import torch

from hf_contrastive import functional as fn
from hf_contrastive.metrics import full_geometry_report, geometry_report
from tests.functional.rows import random_rows


X, Y = random_rows(60, 8) + 0.5, random_rows(60, 8, seed=1)
IDS = torch.arange(60) // 3


def test_all_rows_have_the_values_of_the_functions():
    report = full_geometry_report({"text": Y, "image": X})
    gap, distance = fn.centroid_gap(X, Y), fn.frechet_distance(X, Y)
    energy, halves = fn.energy_distance(X, Y), fn.divergence_of_halves(X, Y)
    cosines, held_out = fn.cosine_statistics(X, Y), fn.modality_separability(X, Y)
    spectrum, shape = fn.summarize_spectrum(fn.spectrum(X)), fn.gaussianity(X)
    found = fn.hubness(fn.k_occurrences(X, Y))
    expected = {
        "centroid_gap_squared_image_text": gap.squared,
        "gap_variance_share_image_text": gap.share,
        "gap_variance_share_floor_image_text": gap.share_floor,
        "centroid_cosine_image_text": gap.cosine,
        "mean_row_norm_image": gap.norm_x,
        "mean_row_norm_floor_image": gap.norm_floor_x,
        "frechet_distance_image_text": distance.squared,
        "frechet_distance_floor_image_text": distance.floor,
        "energy_distance_image_text": energy.unbiased,
        "energy_distance_null_std_image_text": energy.null_std,
        "smoothed_divergence_image_text": halves.divergence,
        "smoothed_divergence_floor_image_text": halves.floor,
        "matched_cosine_mean_image_text": cosines.matched_mean,
        "unmatched_cosine_mean_image_text": cosines.unmatched_mean,
        "matched_cosine_std_image_text": cosines.matched_std,
        "unmatched_cosine_std_image_text": cosines.unmatched_std,
        "d_prime_image_text": cosines.d_prime,
        "separability_image_text": held_out.accuracy,
        "separability_standard_error_image_text": held_out.standard_error,
        "effective_rank_image": spectrum.effective_rank,
        "participation_ratio_image": spectrum.participation_ratio,
        "top_share_image": spectrum.top_share,
        "condition_number_image": spectrum.condition_number,
        "anderson_darling_image": shape.anderson_darling,
        "epps_pulley_image": shape.epps_pulley,
        "gaussianity_rows_text": 60,
        "hubness_skewness_image_to_text": found.skewness,
        "hubness_antihubs_image_to_text": found.antihubs,
        "uniformity_image": fn.uniformity(X),
        "uniformity_floor": fn.uniformity_floor(8),
        "uniformity_ratio_image": fn.uniformity(X) / fn.uniformity_floor(8),
        "modality_gap_image_text": fn.modality_gap(X, Y).gap,
        "modality_gap_floor_image_text": fn.modality_gap(X, Y).floor,
        "alignment_image_text": fn.alignment(X, Y),
    }
    assert {name: report[f"geometry/{name}"] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-9, abs=1e-12
    )
    assert not [name for name in report if "quadratic_rows" in name]


def test_logs_and_evaluation_agree_where_both_measure():
    embeds = {"image": X.float(), "text": Y.float()}
    logs, report = geometry_report(embeds), full_geometry_report(embeds)
    assert set(logs) <= set(report)
    # The reference of the effective rank is a formula in logs, and read off the whole spectrum in an evaluation.
    for name, value in logs.items():
        assert report[name] == pytest.approx(value, rel=5e-3 if "isotropic" in name else 1e-5), name


def test_rows_of_one_id_match_and_repeated_images_count_once():
    images = X[IDS]
    report = full_geometry_report({"image": images, "text": Y}, ids=IDS)
    own, items = X[:20], torch.arange(20)
    assert report["geometry/uniformity_image"] == pytest.approx(fn.uniformity(own).item(), rel=1e-9)
    assert report["geometry/modality_gap_image_text"] == pytest.approx(fn.modality_gap(own, Y).gap.item(), rel=1e-9)
    assert report["geometry/alignment_image_text"] == pytest.approx(fn.alignment(images, Y).item(), rel=1e-9)
    cosines = fn.cosine_statistics(own, Y, x_ids=items, y_ids=IDS)
    assert report["geometry/matched_cosine_mean_image_text"] == pytest.approx(cosines.matched_mean.item(), rel=1e-9)
    held_out = fn.modality_separability(own, Y, x_ids=items, y_ids=IDS)
    assert report["geometry/separability_image_text"] == pytest.approx(held_out.accuracy.item(), rel=1e-9)


def test_a_sample_stands_for_all_pairs_of_rows_and_says_how_many_it_has():
    report = full_geometry_report({"image": X, "text": Y}, max_rows=25, seed=3)
    assert report["geometry/quadratic_rows_text"] == 25
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(3))[:25].sort().values
    energy = fn.energy_distance(X[rows], Y[rows])
    assert report["geometry/energy_distance_image_text"] == pytest.approx(energy.unbiased.item(), rel=1e-9)
    # What needs no pairs of rows, and uniformity, are of all rows.
    assert report["geometry/uniformity_image"] == pytest.approx(fn.uniformity(X).item(), rel=1e-9)
    assert report["geometry/frechet_distance_image_text"] == pytest.approx(
        fn.frechet_distance(X, Y, seed=3).squared.item()
    )
    assert report == full_geometry_report({"image": X, "text": Y}, max_rows=25, seed=3)


def test_a_sample_with_ids_keeps_items_together():
    report = full_geometry_report({"image": X[IDS], "text": Y}, ids=IDS, max_rows=40)
    assert report["geometry/quadratic_rows_text"] == 40
    assert math.isfinite(report["geometry/smoothed_divergence_image_text"])


@pytest.mark.parametrize("num_rows", [1, 2, 3, 9, 10, 11, 20])
def test_small_sets_leave_out_what_they_have_no_value_for(num_rows: int):
    report = full_geometry_report({"image": X[:num_rows], "text": Y[:num_rows]})
    assert ("geometry/uniformity_image" in report) == (num_rows > 1)
    assert ("geometry/separability_image_text" in report) == (num_rows >= 10)
    assert ("geometry/hubness_skewness_image_to_text" in report) == (num_rows >= 11)
    assert ("geometry/anderson_darling_text" in report) == (num_rows >= 20)


def test_rows_that_all_show_one_item_have_no_unmatched_pairs():
    report = full_geometry_report({"image": X, "text": Y}, ids=torch.zeros(60, dtype=torch.long))
    assert "geometry/matched_cosine_mean_image_text" not in report
    assert "geometry/modality_gap_image_text" in report


def test_a_collapsed_model_is_measured_too():
    report = full_geometry_report({"image": torch.ones(40, 8), "text": -torch.ones(40, 8)})
    assert report["geometry/uniformity_image"] == pytest.approx(0, abs=1e-6)
    assert report["geometry/effective_rank_image"] == pytest.approx(1)
    assert report["geometry/energy_distance_image_text"] == pytest.approx(4)
    assert report["geometry/separability_image_text"] == 1
    assert report["geometry/hubness_skewness_image_to_text"] == 0
    # Matches make no difference to equal cosines. The normality of coordinates that do not vary is no number.
    assert report["geometry/d_prime_image_text"] == 0
    assert all(map(math.isfinite, report.values()))
    assert "geometry/anderson_darling_image" not in report


def test_one_modality_and_three_modalities_will_do():
    assert not [name for name in full_geometry_report({"image": X}) if "gap" in name]
    report = full_geometry_report({"b": X, "a": Y, "c": random_rows(60, 8, seed=2)})
    assert {"geometry/modality_gap_a_b", "geometry/energy_distance_a_c", "geometry/hubness_skewness_c_to_b"} <= set(
        report
    )


def test_bad_rows_are_named_with_their_modality():
    bad = X.clone()
    bad[7] = torch.nan
    with pytest.raises(ValueError, match=r"`embeds\['text'\]` holds rows that are not finite: row 7"):
        full_geometry_report({"image": X, "text": bad})
    with pytest.raises(ValueError, match="`max_rows` must be at least 2, but got 1"):
        full_geometry_report({"image": X, "text": Y}, max_rows=1)
