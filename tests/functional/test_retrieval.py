import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import (
    matching,
    retrieval,
    retrieval_ranks,
    retrieval_relevance,
    two_way_retrieval_ranks,
)
from tests.functional.rows import random_rows, unit_rows


def naive_places(queries: Tensor, keys: Tensor, query_ids: Tensor, key_ids: Tensor) -> list[int]:
    """Place of the first match in a sorted list of all keys, counted from 0."""
    places = []
    for query, item in zip(queries, query_ids, strict=True):
        order = sorted(range(len(keys)), key=lambda j, query=query: -float(query @ keys[j]))
        places.append(next(place for place, j in enumerate(order) if key_ids[j] == item))
    return places


def expected_recall(scores: list[float], matches: set[int], k: int) -> float:
    """Chance that one of `matches` is among the first k, over all orders in which ties can be broken."""
    hits = []
    for tie_break in permutations(range(len(scores))):
        order = sorted(range(len(scores)), key=lambda j, tie_break=tie_break: (-scores[j], tie_break[j]))
        hits.append(bool(matches & set(order[:k])))
    return sum(hits) / len(hits)


@pytest.mark.parametrize("chunk_size", [1, 7, 1024])
def test_ranks_match_a_naive_sort(chunk_size: int):
    queries, keys = unit_rows(20, 5), unit_rows(20, 5, seed=1)
    ranks = retrieval_ranks(queries, keys, chunk_size=chunk_size)
    assert ranks.better.tolist() == naive_places(queries, keys, torch.arange(20), torch.arange(20))
    assert ranks.tied.eq(0).all()


@pytest.mark.parametrize("chunk_size", [1, 7, 1024])
def test_any_of_several_matches_will_do(chunk_size: int):
    # Each item has two captions among the keys, in no order; item 9 is asked for twice, items 4 and 5 never.
    query_ids, key_ids = torch.tensor([9, 7, 9, 8]), torch.tensor([7, 8, 4, 9, 5, 9, 8, 7, 4, 5])
    queries, keys = unit_rows(4, 3), unit_rows(10, 3, seed=1)
    ranks = retrieval_ranks(queries, keys, query_ids=query_ids, key_ids=key_ids, chunk_size=chunk_size)
    firsts = naive_places(queries, keys, query_ids, key_ids)
    # Matches that rank below the first one do not count as rivals, and no rival ranks between two matches' top.
    assert ranks.better.tolist() == firsts


def test_recall_and_median_count_places_from_one():
    # Matches stand at places 1, 2 and 4.
    scores = torch.tensor([[9.0, 1, 1, 1], [5, 3, 1, 1], [5, 4, 1, 3]], dtype=torch.float64)
    ranks = retrieval_ranks(
        scores,
        torch.eye(4, dtype=torch.float64),
        query_ids=torch.arange(3),
        key_ids=torch.arange(4),
        normalize=False,
    )
    assert ranks.better.tolist() == [0, 1, 3]
    assert [ranks.recall(k).item() for k in (1, 2, 3, 4)] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1], abs=1e-6)
    assert ranks.median().item() == 2


def test_the_median_of_an_even_number_of_queries_lies_between_two_places():
    scores = torch.tensor([[9.0, 1], [5, 3]])
    assert retrieval_ranks(scores, torch.eye(2), normalize=False).median().item() == 1.5


@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_collapsed_model_looks_no_better_than_chance(n: int):
    ranks = retrieval_ranks(torch.ones(n, 4), torch.ones(n, 4))
    assert ranks.tied.tolist() == [n - 1] * n
    for k in range(1, n + 1):
        assert ranks.recall(k).item() == pytest.approx(k / n, abs=1e-6)
    assert ranks.median().item() == (n + 1) / 2


@pytest.mark.parametrize(("queries", "n", "d"), [(33, 33, 17), (3, 33, 17), (1, 257, 100), (3, 1001, 513)])
def test_equal_keys_tie_whatever_the_order_of_summation(queries: int, n: int, d: int):
    keys = random_rows(1, d).float().expand(n, d)
    ids = torch.zeros(queries, dtype=torch.long), torch.arange(n)
    ranks = retrieval_ranks(random_rows(queries, d, seed=1).float(), keys, query_ids=ids[0], key_ids=ids[1])
    assert ranks.tied.tolist() == [n - 1] * queries


@pytest.mark.parametrize("matches", [{0}, {2}, {4}, {0, 1}, {1, 2}, {2, 3, 4}], ids=str)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_recall_is_its_expectation_over_ways_to_break_ties(matches: set[int], k: int):
    scores = [3.0, 2.0, 2.0, 2.0, 1.0]
    ranks = retrieval_ranks(
        torch.tensor([scores], dtype=torch.float64),
        torch.eye(5, dtype=torch.float64),
        query_ids=torch.tensor([1]),
        key_ids=torch.tensor([int(j in matches) for j in range(5)]),
        normalize=False,
    )
    assert ranks.recall(k).item() == pytest.approx(expected_recall(scores, matches, k), abs=1e-6)


def test_lengths_count_on_request_only():
    queries, keys = torch.eye(2), torch.tensor([[1.0, 0.0], [5.0, 1.0]])
    assert retrieval_ranks(queries, keys).better.tolist() == [0, 0]
    assert retrieval_ranks(queries, keys, normalize=False).better.tolist() == [1, 0]


def test_unequal_numbers_need_ids():
    with pytest.raises(ValueError, match=r"as many queries as keys, but got 3 and 4\. Pass the item"):
        retrieval_ranks(unit_rows(3, 4), unit_rows(4, 4))


@pytest.mark.parametrize("given", ["query_ids", "key_ids"])
def test_one_kind_of_ids_is_not_enough(given: str):
    with pytest.raises(ValueError, match="`query_ids` and `key_ids` go together"):
        retrieval_ranks(unit_rows(3, 4), unit_rows(3, 4), **{given: torch.arange(3)})


def test_a_query_without_a_match_is_named():
    with pytest.raises(ValueError, match="none has the id 8"):
        retrieval_ranks(
            unit_rows(3, 4), unit_rows(3, 4), query_ids=torch.tensor([1, 8, 9]), key_ids=torch.tensor([1, 2, 3])
        )


def test_widths_must_agree():
    with pytest.raises(ValueError, match="`queries` and `keys` must have the same width"):
        # Past the shape checks of the test run, which users do not have.
        getattr(retrieval_ranks, "__wrapped__", retrieval_ranks)(unit_rows(3, 4), unit_rows(3, 5))


@pytest.mark.parametrize("k", [0, -1])
def test_recall_at_no_place_is_refused(k: int):
    with pytest.raises(ValueError, match=rf"^`k` must be at least 1, but got {k}\.$"):
        retrieval_ranks(unit_rows(3, 4), unit_rows(3, 4)).recall(k)


# ---- Both ways ----


@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_ranks_both_ways_are_those_of_each(chunk_size: int | None):
    # Items in no order, several rows each on both sides.
    x, y = unit_rows(23, 3), unit_rows(40, 3, seed=1)
    x_ids, y_ids = (torch.randint(6, (n,), generator=torch.Generator().manual_seed(n)) * 5 - 7 for n in (23, 40))
    forth, back = two_way_retrieval_ranks(x, y, query_ids=x_ids, key_ids=y_ids, chunk_size=chunk_size)
    assert forth.better.tolist() == naive_places(x, y, x_ids, y_ids)
    assert back.better.tolist() == naive_places(y, x, y_ids, x_ids)
    alone = (
        retrieval_ranks(x, y, query_ids=x_ids, key_ids=y_ids),
        retrieval_ranks(y, x, query_ids=y_ids, key_ids=x_ids),
    )
    for ours, theirs in zip((forth, back), alone, strict=True):
        assert all(a.equal(b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("stripe", [4, 4096])
def test_ranks_both_ways_of_pairs_over_many_tiles(stripe: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matching, "STRIPE", stripe)
    x, y = unit_rows(50, 3), unit_rows(50, 3, seed=1)
    forth, back = two_way_retrieval_ranks(x, y, chunk_size=3)
    assert forth.better.tolist() == naive_places(x, y, torch.arange(50), torch.arange(50))
    assert back.better.tolist() == naive_places(y, x, torch.arange(50), torch.arange(50))


@pytest.mark.parametrize("levels", [2, 5])
def test_ties_both_ways_match_a_plain_loop(levels: int):
    scores = torch.randint(levels, (12, 12), generator=torch.Generator().manual_seed(0)).double()
    forth, back = two_way_retrieval_ranks(scores, torch.eye(12, dtype=torch.float64), normalize=False, chunk_size=5)
    for ranks, table in ((forth, scores), (back, scores.T)):
        for i, row in enumerate(table.tolist()):
            assert ranks.better[i] == sum(score > row[i] for score in row)
            assert ranks.tied[i] == sum(score == row[i] for score in row) - 1
            assert ranks.matches[i] == 1


@pytest.mark.parametrize("noise", [4, 100])
def test_ranks_of_single_precision_are_those_of_double(noise: int):
    # Some of the 1,000,000 scores differ from their positive's by less than single precision tells apart.
    x = random_rows(1000, 64).float()
    y = x + noise * random_rows(1000, 64, seed=1).float()
    single, double = (two_way_retrieval_ranks(x.to(dtype), y.to(dtype)) for dtype in (torch.float32, torch.float64))
    for ours, exact in zip(single, double, strict=True):
        assert all(a.equal(b) for a, b in zip(ours, exact, strict=True))


def test_equal_rows_tie_among_others():
    x = random_rows(700, 512).float()
    x[5] = x[650]
    forth, back = two_way_retrieval_ranks(x, x.clone())
    for ranks in (forth, back):
        assert ranks.tied.nonzero().flatten().tolist() == [5, 650]
        assert ranks.better.eq(0).all()


def test_a_collapsed_model_looks_no_better_than_chance_either_way():
    n = 1100  # three tiles, the last cut off
    for ranks in two_way_retrieval_ranks(random_rows(1, 512).float().expand(n, 512), torch.ones(n, 512)):
        assert ranks.tied.eq(n - 1).all()
        assert ranks.median().item() == (n + 1) / 2


def test_a_key_without_a_query_is_named_where_it_searches():
    ids = {"query_ids": torch.tensor([1, 1, 2]), "key_ids": torch.tensor([1, 2, 9])}
    assert retrieval_ranks(unit_rows(3, 4), unit_rows(3, 4), **ids).better.shape == (3,)
    with pytest.raises(ValueError, match=r"^Every key needs a match among the queries, but none has the id 9"):
        two_way_retrieval_ranks(unit_rows(3, 4), unit_rows(3, 4), **ids)


def test_a_bad_row_is_named_by_the_number_that_the_user_knows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matching, "STRIPE", 4)
    keys = unit_rows(10, 4)
    keys[7, 1] = float("nan")
    with pytest.raises(ValueError, match=r"^`keys` holds rows that are not finite: row 7 is the first of 1\.$"):
        two_way_retrieval_ranks(unit_rows(10, 4), keys, query_ids=-torch.arange(10), key_ids=-torch.arange(10))


# ---- All matches ----


def loop_relevance(scores: list[float], matches: list[bool], k: int) -> tuple[float, float]:
    """Average precision and NDCG by their definitions; a match stands in the middle of the wrong keys that tie with it."""
    found = sorted((score for score, match in zip(scores, matches, strict=True) if match), reverse=True)
    wrong = [score for score, match in zip(scores, matches, strict=True) if not match]
    places = [i + sum(w > s for w in wrong) + sum(w == s for w in wrong) / 2 for i, s in enumerate(found, start=1)]
    precision = sum(i / place for i, place in enumerate(places, start=1)) / len(places)
    gain = sum(1 / math.log2(1 + place) for place in places if place <= k)
    return precision, gain / sum(1 / math.log2(1 + i) for i in range(1, min(k, len(places)) + 1))


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_precision_and_gain_match_a_plain_loop(levels: int, chunk_size: int | None):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(levels, (9, 30), generator=generator).double()
    query_ids, key_ids = torch.arange(9) % 4, torch.randint(5, (30,), generator=generator)
    ranks, relevance = retrieval_relevance(
        scores,
        torch.eye(30, dtype=torch.float64),
        query_ids=query_ids,
        key_ids=key_ids,
        k=6,
        normalize=False,
        chunk_size=chunk_size,
    )
    loop = [
        loop_relevance(row.tolist(), (key_ids == item).tolist(), 6)
        for row, item in zip(scores, query_ids, strict=True)
    ]
    assert relevance.average_precision.tolist() == pytest.approx([ap for ap, _ in loop], abs=1e-6)
    assert relevance.gain.tolist() == pytest.approx([gain for _, gain in loop], abs=1e-6)
    plain = retrieval_ranks(
        scores, torch.eye(30, dtype=torch.float64), query_ids=query_ids, key_ids=key_ids, normalize=False
    )
    assert all(a.equal(b) for a, b in zip(ranks, plain, strict=True))


def test_average_precision_agrees_with_scikit_learn_where_nothing_ties():
    metrics = pytest.importorskip("sklearn.metrics")
    queries, keys, key_ids = unit_rows(8, 6), unit_rows(40, 6, seed=1), torch.arange(40) % 8
    _, relevance = retrieval_relevance(queries, keys, query_ids=torch.arange(8), key_ids=key_ids, k=10)
    for i, (precision, gain) in enumerate(zip(*relevance, strict=True)):
        true, scores = (key_ids == i).numpy(), (queries[i] @ keys.T).numpy()
        assert precision.item() == pytest.approx(metrics.average_precision_score(true, scores), abs=1e-6)
        assert gain.item() == pytest.approx(metrics.ndcg_score([true], [scores], k=10), abs=1e-6)


def test_of_a_single_match_precision_is_the_reciprocal_rank():
    queries, keys = unit_rows(20, 3), unit_rows(20, 3, seed=1)
    ranks, relevance = retrieval_relevance(queries, keys)
    places = [1 + place for place in naive_places(queries, keys, torch.arange(20), torch.arange(20))]
    assert relevance.average_precision.tolist() == pytest.approx([1 / place for place in places], abs=1e-9)
    assert ranks.mean_reciprocal().item() == pytest.approx(sum(1 / place for place in places) / 20, abs=1e-6)
    assert ranks.mean().item() == pytest.approx(sum(places) / 20, abs=1e-6)


def test_a_collapsed_model_has_the_reciprocal_rank_of_the_middle():
    ranks, relevance = retrieval_relevance(torch.ones(9, 4), torch.ones(9, 4))
    assert ranks.mean_reciprocal().item() == pytest.approx(1 / 5, abs=1e-6)
    assert relevance.average_precision.tolist() == pytest.approx([1 / 5] * 9, abs=1e-6)


def test_a_gain_at_no_place_is_refused():
    with pytest.raises(ValueError, match="`k` must be at least 1, but got 0"):
        retrieval_relevance(unit_rows(3, 4), unit_rows(3, 4), k=0)


def test_scores_never_exceed_the_chunk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrieval, "CHUNK_SCORES", 100)
    ids = torch.arange(50) % 30, torch.arange(30)
    sizes = [
        scores.numel() for _, scores, *_ in retrieval._scored(unit_rows(50, 4), unit_rows(30, 4), *ids, True, None)
    ]
    assert max(sizes) <= 100
    assert sum(sizes) == 50 * 30


@pytest.mark.parametrize("scale", [1e-5, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_raw_rows_changes_no_place(scale: float, dtype: torch.dtype):
    x, y = random_rows(30, 8).to(dtype), random_rows(30, 8, seed=1).to(dtype)
    # Rows of very different lengths, and two keys that are equal.
    y = (y + x) * torch.logspace(-2, 2, 30, dtype=dtype).unsqueeze(1)
    y[4] = y[5]
    ids = {"query_ids": torch.arange(30) % 9, "key_ids": torch.arange(30) % 9}
    own, scaled = (retrieval_relevance(x * s, y * s, **ids, normalize=False) for s in (1.0, scale))
    assert all(a.equal(b) for a, b in zip(own[0], scaled[0], strict=True))
    assert scaled[1].average_precision.tolist() == pytest.approx(own[1].average_precision.tolist())
    both_ways = (two_way_retrieval_ranks(x * s, y * s, **ids, normalize=False) for s in (1.0, scale))
    for first, second in zip(*both_ways, strict=True):
        assert all(a.equal(b) for a, b in zip(first, second, strict=True))
