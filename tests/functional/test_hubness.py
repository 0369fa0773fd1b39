import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from hf_contrastive.functional import (
    chance_hubness,
    hubness,
    k_occurrences,
    recall_by_hubness,
    retrieval,
    retrieval_ranks,
)
from tests.functional.rows import random_rows, unit_rows


def naive_counts(queries: Tensor, keys: Tensor, k: int, *, within: bool) -> list[int]:
    """Occurrences by sorting all keys of each query."""
    counts = [0] * len(keys)
    for i, query in enumerate(queries):
        order = sorted(range(len(keys)), key=lambda j, query=query: -float(query @ keys[j]))
        for j in [j for j in order if not (within and i == j)][:k]:
            counts[j] += 1
    return counts


@pytest.mark.parametrize("chunk_size", [1, 7, None])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_occurrences_match_a_naive_sort(chunk_size: int | None, k: int):
    queries, keys = unit_rows(20, 5), unit_rows(13, 5, seed=1)
    across = k_occurrences(3 * queries, keys, k=k, chunk_size=chunk_size)
    assert across.tolist() == naive_counts(queries, keys, k, within=False)
    within = k_occurrences(keys, k=k, chunk_size=chunk_size)
    assert within.tolist() == naive_counts(keys, keys, k, within=True)


def test_lengths_count_on_request_only():
    queries, keys = torch.eye(2), torch.tensor([[1.0, 0.0], [5.0, 1.0]])
    assert k_occurrences(queries, keys, k=1).tolist() == [1, 1]
    assert k_occurrences(queries, keys, k=1, normalize=False).tolist() == [0, 2]


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("chunk_size", [1, 4, None])
def test_a_collapsed_cloud_has_no_hub(k: int, chunk_size: int | None):
    x = random_rows(1, 17).float().expand(9, 17)
    assert k_occurrences(x, k=k, chunk_size=chunk_size).tolist() == pytest.approx([k] * 9, rel=1e-6)
    values = hubness(k_occurrences(x, x[:7], k=5))
    assert (values.skewness.item(), values.antihubs.item()) == (0, 0)
    assert values.robin_hood.item() == pytest.approx(0, abs=1e-6)


def test_keys_that_tie_for_the_last_place_share_it():
    # One key is nearest, three tie for the second of two places, one is far.
    scores = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    counts = k_occurrences(scores, torch.eye(5, dtype=torch.float64), k=2, normalize=False)
    assert counts.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 0], rel=1e-6)


def test_scores_never_exceed_the_chunk(monkeypatch: pytest.MonkeyPatch):
    import sys

    module = sys.modules["hf_contrastive.functional.hubness"]
    x = unit_rows(50, 4)
    whole = k_occurrences(x)
    monkeypatch.setattr(module, "CHUNK_SCORES", 120)
    assert k_occurrences(x).tolist() == whole.tolist()
    assert retrieval.CHUNK_SCORES > 120


def test_hubness_is_scipys_skewness_and_the_definitions():
    counts = k_occurrences(random_rows(200, 30), k=5)
    values = hubness(counts)
    assert values.skewness.item() == pytest.approx(stats.skew(counts.numpy()), rel=1e-12)
    assert values.antihubs.item() == np.mean(counts.numpy() == 0)
    assert values.top.item() == counts.max().item()
    # The Robin Hood index is the largest distance of the Lorenz curve from equality.
    lorenz = np.concatenate([[0], np.sort(counts.numpy()).cumsum() / counts.sum().item()])
    assert values.robin_hood.item() == pytest.approx((np.linspace(0, 1, 201) - lorenz).max(), abs=1e-12)


def test_one_key_that_all_find_is_the_worst_there_is():
    values = hubness(torch.tensor([0.0, 0.0, 0.0, 12.0]))
    assert values.robin_hood.item() == pytest.approx(3 / 4)
    assert values.antihubs.item() == 3 / 4
    assert values.skewness.item() > 1


@pytest.mark.parametrize("d", [3, 32])
def test_evenly_spread_clouds_are_at_chance_and_a_cone_and_a_gap_make_hubs(d: int):
    x, y, chance = random_rows(600, d), random_rows(600, d, seed=1), chance_hubness(600, 600)
    for even in (hubness(k_occurrences(x)), hubness(k_occurrences(x, y))):
        # The standard error of a skewness of 600 is 0.1.
        assert even.skewness.item() == pytest.approx(chance.skewness.item(), abs=0.4)
        assert even.robin_hood.item() == pytest.approx(chance.robin_hood.item(), abs=0.05)
    shift = d**0.5 * torch.eye(d, dtype=torch.float64)[0]
    gap = hubness(k_occurrences(x + shift, y - shift))
    assert gap.skewness > chance.skewness + 2
    assert gap.antihubs > 0.2
    if d == 32:
        assert hubness(k_occurrences(x + 1)).skewness > chance.skewness + 0.8


def test_occurrences_ignore_rotations():
    x, rotation = random_rows(60, 4), torch.linalg.qr(random_rows(4, 4, seed=2)).Q
    assert k_occurrences(x @ rotation).tolist() == k_occurrences(x).tolist()


@pytest.mark.parametrize(("q", "m", "k"), [(50, 40, 5), (300, 20, 1), (30, 30, 20), (7, 3, 3)])
def test_random_neighbours_show_what_chance_says(q: int, m: int, k: int):
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(600):
        picks = torch.rand(q, m, generator=generator).topk(k, dim=1).indices
        draws.append(torch.stack(hubness(torch.bincount(picks.flatten(), minlength=m).double())))
    means, errors = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 600**0.5
    chance = chance_hubness(q, m, k=k)
    expected = stats.binom(q, k / m)
    assert chance.antihubs.item() == pytest.approx(expected.pmf(0), rel=1e-9)
    if k < m:
        assert chance.skewness.item() == pytest.approx(float(expected.stats("s")), rel=1e-9)
    # Keys are taken for independent, which the skewness of a few keys and their maximum are not quite.
    for name, mean, error in zip(chance._fields, means.tolist(), errors.tolist(), strict=True):
        slack = {"skewness": 0.1, "top": 0.02 * mean}.get(name, 0.01)
        assert getattr(chance, name).item() == pytest.approx(mean, abs=4 * error + slack), name


def test_chance_of_a_million_queries_is_finite():
    values = chance_hubness(1_000_000, 1_000_000, k=10)
    assert torch.stack(values).isfinite().all()
    assert values.antihubs.item() == pytest.approx(np.exp(-10), rel=1e-3)


# ---- Recall by hubness ----


def test_recall_is_that_of_queries_sorted_by_the_occurrences_of_their_matches():
    queries, keys = unit_rows(60, 3), unit_rows(60, 3, seed=1)
    keys = keys + 2 * queries
    counts, hits = k_occurrences(queries, keys, k=5), retrieval_ranks(queries, keys).hits(1)
    result = recall_by_hubness(queries, keys, k=5, bins=4)
    assert (result.occurrences.diff() >= 0).all()
    assert result.occurrences.mean().item() == pytest.approx(5, rel=1e-9)
    assert result.recall.mean().item() == pytest.approx(hits.mean().item(), rel=1e-9)
    for start in range(4):
        # Each of many random orders among equal occurrences, on average.
        generator, means = torch.Generator().manual_seed(start), []
        for _ in range(400):
            order = torch.argsort(counts + 0.5 * torch.rand(60, generator=generator, dtype=torch.float64))
            means.append(hits[order][15 * start : 15 * start + 15].mean())
        error = torch.stack(means).std().item() / 20
        assert result.recall[start].item() == pytest.approx(torch.stack(means).mean().item(), abs=4 * error + 1e-9)


def test_occurrences_of_all_matches_of_a_query_count_together():
    query_ids, key_ids = torch.tensor([9, 7, 9]), torch.tensor([7, 8, 9, 9])
    queries, keys = unit_rows(3, 3), unit_rows(4, 3, seed=1)
    counts = k_occurrences(queries, keys, k=2)
    result = recall_by_hubness(queries, keys, query_ids=query_ids, key_ids=key_ids, k=2, bins=3)
    matched = sorted([float(counts[2] + counts[3]), float(counts[0]), float(counts[2] + counts[3])])
    assert result.occurrences.tolist() == matched


def test_the_order_of_rows_does_not_matter():
    queries, keys = unit_rows(30, 3), unit_rows(30, 3, seed=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    results = (recall_by_hubness(queries, keys), recall_by_hubness(queries[order], keys[order]))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: k_occurrences(x, k=0),
            "`k` must be between 1 and 4, the number of keys a query can find, but got 0.",
        ),
        (lambda x: k_occurrences(x, k=5), "`k` must be between 1 and 4"),
        (lambda x: k_occurrences(x, x, k=6), "`k` must be between 1 and 5"),
        (lambda x: k_occurrences(x, 0 * x, k=1), "`keys` holds rows of zeros"),
        (lambda x: recall_by_hubness(x, x, k=2, bins=6), "`bins` must be between 1 and 5"),
        (lambda x: chance_hubness(3, 4, k=5), "between 1 and 4 neighbours of each, but got 3 and `k` 5."),
        (lambda x: hubness(torch.zeros(4)), "there is nothing above zero in it"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(unit_rows(5, 3))


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_the_scale_of_raw_rows_changes_no_neighbour(scale: float):
    x, y = random_rows(30, 8).float(), random_rows(40, 8, seed=1).float()
    assert torch.equal(
        k_occurrences(x * scale, y * scale, k=3, normalize=False), k_occurrences(x, y, k=3, normalize=False)
    )


def test_autocast_leaves_neighbours_alone():
    x = random_rows(60, 16).float() + 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = k_occurrences(x, k=3)
        # Shares of seven tied keys are no numbers of half precision.
        tied = k_occurrences(torch.ones(8, 4), k=3)
    assert torch.equal(found, k_occurrences(x, k=3))
    torch.testing.assert_close(tied, torch.full((8,), 3.0, dtype=torch.float64), rtol=0, atol=1e-6)
