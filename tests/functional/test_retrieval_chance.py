import re
from itertools import combinations

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import RetrievalChance, count_matches, retrieval_relevance


def all_orders(num_keys: int, matches: int) -> Tensor:
    """Scores of one query in every order of the keys that tells matches from others; the first keys are the matches."""
    rows = []
    for places in combinations(range(num_keys), matches):
        others = [place for place in range(num_keys) if place not in places]
        rows.append([-float(place) for place in [*places, *others]])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (6, 1), (6, 2), (7, 3), (5, 5)])
def test_chance_is_the_mean_over_all_orders_of_the_keys(n: int, m: int):
    scores = all_orders(n, m)
    ids = torch.zeros(len(scores), dtype=torch.long), (torch.arange(n) >= m).long()
    for k in (1, 2, n, n + 3):
        ranks, relevance = retrieval_relevance(
            scores, torch.eye(n, dtype=torch.float64), query_ids=ids[0], key_ids=ids[1], k=k, normalize=False
        )
        chance = RetrievalChance(n, count_matches(*ids))
        assert chance.recall(k).item() == pytest.approx(ranks.recall(k).item(), abs=1e-9)
        assert chance.gain(k).item() == pytest.approx(relevance.gain.mean().item(), abs=1e-6)
    assert chance.median().item() == ranks.median().item()
    assert chance.mean().item() == pytest.approx(ranks.mean().item(), abs=1e-9)
    assert chance.mean_reciprocal().item() == pytest.approx(ranks.mean_reciprocal().item(), abs=1e-6)
    assert chance.average_precision().item() == pytest.approx(relevance.average_precision.mean().item(), abs=1e-6)


def test_queries_with_unequal_numbers_of_matches_are_averaged():
    together = RetrievalChance(9, torch.tensor([1, 4, 4]))
    one, four = RetrievalChance(9, torch.tensor([1])), RetrievalChance(9, torch.tensor([4]))
    for measure in ("mean", "mean_reciprocal", "average_precision"):
        expected = (getattr(one, measure)() + 2 * getattr(four, measure)()) / 3
        torch.testing.assert_close(getattr(together, measure)(), expected, rtol=1e-12, atol=0)
    for measure in ("recall", "gain"):
        expected = (getattr(one, measure)(3) + 2 * getattr(four, measure)(3)) / 3
        torch.testing.assert_close(getattr(together, measure)(3), expected, rtol=1e-12, atol=0)
    # Half of the mixture: chances of the first place are 1/9 and 4/9, of the first two 2/9 and 13/18.
    assert together.median().item() == 2


def test_measures_have_the_names_of_reports():
    chance = RetrievalChance(9, torch.tensor([1, 4, 4]))
    assert chance.named("recall@5") == chance.recall(5).item()
    assert chance.named("ndcg@10") == chance.gain(10).item()
    whole = {"median_rank": "median", "mean_rank": "mean", "mrr": "mean_reciprocal", "map": "average_precision"}
    for name, method in whole.items():
        assert chance.named(name) == getattr(chance, method)().item()
    for wrong in ("recall", "recall@x", "rank"):
        with pytest.raises(ValueError, match=f"`measure` must be .* but is '{wrong}'"):
            chance.named(wrong)


@pytest.mark.parametrize(("n", "median"), [(100_000, 50_000.5), (99_999, 50_000)])
def test_the_median_of_many_keys_is_not_moved_by_rounding(n: int, median: float):
    chance = RetrievalChance(n, torch.ones(3, dtype=torch.long))
    assert chance.median().item() == median
    assert chance.recall(10).item() == pytest.approx(10 / n, rel=1e-9)
    assert chance.mean().item() == (n + 1) / 2


def test_matches_are_counted_by_id():
    query_ids, key_ids = torch.tensor([5, 2, 5, 8]), torch.tensor([2, 5, 5, 3, 8, 5])
    assert count_matches(query_ids, key_ids).tolist() == [int((key_ids == i).sum()) for i in query_ids]


@pytest.mark.parametrize(("matches", "named"), [([0, 1], "[0, 1]"), ([1, 5], "[1, 5]")])
def test_no_match_or_more_than_there_are_keys_are_refused(matches: list[int], named: str):
    with pytest.raises(
        ValueError, match=re.escape(f"between 1 and 4 matches, the number of keys, but there are {named}")
    ):
        RetrievalChance(4, torch.tensor(matches)).recall(1)


@pytest.mark.parametrize("measure", ["recall", "gain"])
def test_no_place_is_refused(measure: str):
    with pytest.raises(ValueError, match="`k` must be at least 1, but got 0"):
        getattr(RetrievalChance(4, torch.tensor([1])), measure)(0)
