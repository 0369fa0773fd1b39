"""Names and conventions of the retrieval report."""

import pytest
import torch

from hf_contrastive.functional import retrieval_ranks
from hf_contrastive.metrics import retrieval_report
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
