"""Names and conventions of the reports that logs and evaluations share."""

import json

import pytest
import torch

from hf_contrastive.functional import (
    expected_effective_rank,
    modality_gap,
    modality_separability,
    retrieval_ranks,
    uniformity,
)
from hf_contrastive.metrics import geometry_report, retrieval_report
from tests.functional.rows import random_rows


IDS = torch.tensor([4, 1, 4, 4, 1, 8])
FIRST = torch.tensor([0, 1, 5])


def test_without_ids_row_i_matches_row_i():
    x, y = random_rows(6, 4), random_rows(6, 4, seed=1)
    report = retrieval_report({"image": x, "text": y}, detailed=True)
    ranks = retrieval_ranks(x, y)
    assert report["retrieval/image_to_text_recall@5"] == pytest.approx(float(ranks.recall(5)))
    assert report["retrieval/image_to_text_mean_rank"] == pytest.approx(float(ranks.mean()))
    assert report["retrieval/image_to_text_mrr"] == pytest.approx(float(ranks.mean_reciprocal()))
    assert not [name for name in report if "candidates" in name or "map" in name or "ndcg" in name]


def test_repeated_images_are_one_candidate_each_whatever_the_length_of_rows():
    x, y = random_rows(9, 4)[IDS], random_rows(6, 4, seed=1)
    report = retrieval_report({"image": x * 3, "text": y}, ids=IDS, detailed=True)
    assert report["retrieval/image_candidates"] == 3
    assert report["retrieval/text_candidates"] == 6
    forth = retrieval_ranks(x[FIRST], y, query_ids=IDS[FIRST], key_ids=IDS)
    back = retrieval_ranks(y, x[FIRST], query_ids=IDS, key_ids=IDS[FIRST])
    for name, ranks in (("image_to_text", forth), ("text_to_image", back)):
        assert report[f"retrieval/{name}_recall@1"] == pytest.approx(float(ranks.recall(1)))
        assert report[f"retrieval/{name}_median_rank"] == pytest.approx(float(ranks.median()))
        assert 0 < report[f"retrieval/{name}_map"] <= 1


def test_different_photos_of_one_product_all_stay():
    report = retrieval_report({"image": random_rows(6, 4), "text": random_rows(6, 4, seed=1)}, ids=IDS, detailed=True)
    assert report["retrieval/image_candidates"] == report["retrieval/text_candidates"] == 6


def test_a_collapsed_model_is_at_chance_with_ids_too():
    ids = torch.arange(50) // 5
    report = retrieval_report({"image": torch.ones(50, 4), "text": torch.ones(50, 4)}, ids=ids)
    assert report["retrieval/image_to_text_recall@1"] == pytest.approx(0.1, abs=1e-6)
    assert not [name for name in report if name.endswith("_chance")]


@pytest.mark.parametrize("ids", [None, torch.arange(40) // 5, torch.arange(40) % 3])
def test_every_measure_stands_beside_its_chance(ids: torch.Tensor | None):
    images = random_rows(40, 4)
    report = retrieval_report({"image": images, "text": random_rows(40, 4, seed=1)}, ids=ids, detailed=True)
    measures = {name for name in report if not name.endswith(("_chance", "_candidates"))}
    assert {f"{name}_chance" for name in measures} == {name for name in report if name.endswith("_chance")}
    # Candidates in 400 random orders: the mean of each measure is within 4 of its errors.
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(400):
        x = torch.randn(40, 30, generator=generator), torch.randn(40, 30, generator=generator)
        found.append(retrieval_ranks(*x, query_ids=ids, key_ids=ids))
    for name, values in {
        "recall@5": torch.stack([ranks.recall(5) for ranks in found]),
        "mean_rank": torch.stack([ranks.mean() for ranks in found]),
    }.items():
        error = values.std().item() / 400**0.5
        assert report[f"retrieval/image_to_text_{name}_chance"] == pytest.approx(values.mean().item(), abs=4 * error)


def test_sampled_queries_are_ranked_among_all_candidates():
    x, y = random_rows(40, 4), random_rows(40, 4, seed=1)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:15].sort().values
    expected = retrieval_ranks(x, y).hits(5)[rows].double().mean().item()
    report = retrieval_report({"image": x, "text": y}, max_queries=15)
    assert report["retrieval/image_to_text_recall@5"] == pytest.approx(expected)
    ids = torch.arange(40) // 2
    expected = retrieval_ranks(x, y, query_ids=ids, key_ids=ids).hits(5)[rows].double().mean().item()
    report = retrieval_report({"image": x, "text": y}, ids=ids, max_queries=15)
    assert report["retrieval/image_to_text_recall@5"] == pytest.approx(expected)
    assert retrieval_report({"image": x, "text": y}, max_queries=40) == retrieval_report({"image": x, "text": y})


def test_large_batches_are_sampled_where_pairs_of_rows_count():
    x, y = random_rows(40, 6), random_rows(40, 6, seed=1)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:15].sort().values
    report = geometry_report({"image": x, "text": y}, max_rows=15)
    assert report["geometry/quadratic_rows_image"] == 15
    assert report["geometry/uniformity_image"] == pytest.approx(uniformity(x[rows]).item(), rel=1e-9)
    assert report["geometry/effective_rank_isotropic_text"] == pytest.approx(expected_effective_rank(6, 15))
    assert report["geometry/modality_gap_image_text"] == pytest.approx(modality_gap(x, y).gap.item(), rel=1e-9)
    assert "geometry/quadratic_rows_image" not in geometry_report({"image": x, "text": y}, max_rows=40)


def test_names_do_not_depend_on_the_order_of_modalities():
    x, y = random_rows(12, 6), random_rows(12, 6, seed=1)
    assert geometry_report({"text": y, "image": x}) == geometry_report({"image": x, "text": y})


def test_separability_comes_when_it_is_asked_for():
    embeds = {"image": random_rows(12, 6), "text": random_rows(12, 6, seed=1)}
    extra = set(geometry_report(embeds, separability=True)) - set(geometry_report(embeds))
    assert extra == {"geometry/separability_image_text"}


def test_separability_holds_all_rows_of_an_item_out_together():
    x, y, ids = random_rows(40, 30), random_rows(40, 30, seed=1), torch.arange(40) // 4
    report = geometry_report({"image": x, "text": y}, ids=ids, separability=True)
    expected = modality_separability(x, y, x_ids=ids, y_ids=ids).accuracy
    assert report["geometry/separability_image_text"] == pytest.approx(float(expected))
    assert float(expected) != pytest.approx(float(modality_separability(x, y).accuracy))


def test_what_has_no_number_is_left_out():
    x = torch.cat([torch.eye(4), -torch.eye(4)])
    report = geometry_report({"image": x, "text": random_rows(8, 4, seed=1).float()})
    assert "geometry/centroid_cosine_image_text" not in report
    assert json.loads(json.dumps(report, allow_nan=False)) == report
