"""Probes against plain loops, scikit-learn and closed values."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.functional import (
    average_ranks,
    class_prototypes,
    class_ranks,
    linear_probe,
    mean_per_class,
    neighbor_scores,
    spearman,
)
from tests.functional.rows import random_rows, unit_rows


def blobs(n: int, classes: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy rows around one center per class, in no order of classes."""
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    return random_rows(classes, d, seed=99)[labels] + random_rows(n, d, seed), labels


# ---- Classes ----


def test_a_prototype_is_the_direction_of_the_mean_of_unit_rows():
    x = random_rows(6, 5).view(2, 3, 5) * torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1)
    for c in range(2):
        mean = sum(x[c, t] / x[c, t].norm() for t in range(3)) / 3
        torch.testing.assert_close(class_prototypes(x)[c], mean / mean.norm(), rtol=0, atol=1e-12)


def test_top_k_accuracy_counts_the_true_class_among_the_first_k():
    scores, labels = random_rows(50, 7), torch.arange(50) % 7
    ranks = class_ranks(scores, labels)
    for k in (1, 3, 7):
        hits = [int(label in row.topk(k).indices) for row, label in zip(scores, labels.tolist(), strict=True)]
        assert ranks.hits(k).tolist() == pytest.approx(hits, abs=1e-9)


def test_equal_scores_of_all_classes_are_chance():
    ranks = class_ranks(torch.ones(3, 4), torch.tensor([0, 1, 3]))
    assert [ranks.recall(k).item() for k in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0], abs=1e-6)


def test_small_classes_count_as_much_and_absent_ones_not():
    values, labels = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([5, 5, 5, 2, 2])
    assert mean_per_class(values, labels).item() == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)


# ---- Nearest neighbours ----


@pytest.mark.parametrize(("k", "chunk_size"), [(1, None), (5, 3), (500, None)])
def test_neighbors_vote_with_their_cosines(k: int, chunk_size: int | None):
    (train, labels), (test, _) = blobs(40, 4, 6), blobs(11, 4, 6, seed=1)
    scores = neighbor_scores(train, labels, test, num_classes=4, k=k, temperature=0.1, chunk_size=chunk_size)
    for row, found in zip(test, scores, strict=True):
        cosines = [float(F.cosine_similarity(row, x, dim=0)) for x in train]
        votes = [0.0] * 4
        for i in sorted(range(40), key=lambda i, cosines=cosines: -cosines[i])[:k]:
            votes[int(labels[i])] += math.exp((cosines[i] - 1) / 0.1)
        assert found.tolist() == pytest.approx(votes, rel=1e-9)


def test_low_temperatures_do_not_overflow():
    scores = neighbor_scores(torch.eye(3), torch.arange(3), torch.eye(3), num_classes=3, temperature=1e-3)
    assert scores.argmax(dim=1).tolist() == [0, 1, 2]
    assert scores.isfinite().all()


@pytest.mark.parametrize(("options", "message"), [({"k": 0}, "`k` must be"), ({"temperature": 0.0}, "`temperature`")])
def test_impossible_neighborhoods_are_refused(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        neighbor_scores(torch.eye(3), torch.arange(3), torch.eye(3), num_classes=3, **options)


# ---- Linear probe ----


@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_is_logistic_regression(classes: int):
    linear_model = pytest.importorskip("sklearn.linear_model")
    (train, labels), (test, _) = blobs(60, classes, 5), blobs(20, classes, 5, seed=1)
    l2 = 0.01
    mean, deviation = train.mean(0), train.std(0, correction=0)
    peer = linear_model.LogisticRegression(C=1 / (60 * l2), tol=1e-10, max_iter=10_000)
    peer.fit(((train - mean) / deviation).numpy(), labels.numpy())
    expected = torch.from_numpy(peer.predict_proba(((test - mean) / deviation).numpy()))
    found = linear_probe(train, labels, test, num_classes=classes, l2=l2).softmax(dim=1)
    if classes == 2:
        # scikit-learn has one vector for two classes, whose penalty is twice that of two opposite halves of it.
        peer.set_params(C=2 / (60 * l2)).fit(((train - mean) / deviation).numpy(), labels.numpy())
        expected = torch.from_numpy(peer.predict_proba(((test - mean) / deviation).numpy()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_probe_gives_the_same_result_each_time_and_for_scaled_and_shifted_rows():
    (train, labels), (test, _) = blobs(60, 3, 5), blobs(20, 3, 5, seed=1)
    first = linear_probe(train, labels, test, num_classes=3)
    assert linear_probe(train, labels, test, num_classes=3).equal(first)
    scale = torch.tensor([1.0, 1e-3, 1e3, 1.0, 5.0], dtype=torch.float64)
    moved = linear_probe(train * scale + 7, labels, test * scale + 7, num_classes=3)
    torch.testing.assert_close(moved, first, rtol=0, atol=1e-4)


def test_a_coordinate_that_never_varies_says_nothing():
    (train, labels), (test, _) = blobs(60, 3, 5), blobs(20, 3, 5, seed=1)
    wider = torch.cat([train, torch.full((60, 1), 0.3)], 1), torch.cat([test, torch.full((20, 1), 0.9)], 1)
    torch.testing.assert_close(
        linear_probe(wider[0], labels, wider[1], num_classes=3),
        linear_probe(train, labels, test, num_classes=3),
        rtol=0,
        atol=1e-6,
    )


def test_the_probe_works_where_gradients_are_off_and_leaves_none():
    (train, labels), (test, _) = blobs(20, 2, 3), blobs(5, 2, 3, seed=1)
    with torch.no_grad():
        assert not linear_probe(train, labels, test, num_classes=2).requires_grad


def test_a_probe_that_has_not_converged_says_so():
    train, labels = blobs(60, 3, 5)
    with pytest.warns(UserWarning, match="has not converged in 2 iterations"):
        linear_probe(train, labels, train, num_classes=3, max_iter=2)


# ---- Rank correlation ----


def loop_ranks(x: list[float]) -> list[float]:
    return [sum(b < a for b in x) + (1 + sum(b == a for b in x)) / 2 for a in x]


def test_ties_share_their_ranks():
    x = [3.0, 1.0, 3.0, 2.0, 1.0, 3.0]
    assert average_ranks(torch.tensor(x)).tolist() == loop_ranks(x)


def test_spearman_is_the_correlation_of_ranks():
    x, y = torch.randint(5, (2, 40), generator=torch.Generator().manual_seed(0))
    ranks = torch.tensor([loop_ranks(x.tolist()), loop_ranks(y.tolist())], dtype=torch.float64)
    assert spearman(x, y).item() == pytest.approx(torch.corrcoef(ranks)[0, 1].item(), abs=1e-12)
    stats = pytest.importorskip("scipy.stats")
    assert spearman(x, y).item() == pytest.approx(stats.spearmanr(x.numpy(), y.numpy()).statistic, abs=1e-12)


def test_spearman_sees_order_alone():
    x = random_rows(1, 20)[0]
    assert spearman(x, x.exp()).item() == pytest.approx(1, abs=1e-12)
    assert spearman(x, -(x**3)).item() == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "message"), [([1.0, 1.0, 1.0], "all 3 are equal"), ([1.0, math.nan, 2.0], "`x` holds a NaN.*entry 1")]
)
def test_what_cannot_be_ranked_is_refused(x: list[float], message: str):
    with pytest.raises(ValueError, match=message):
        spearman(torch.tensor(x), torch.tensor([1.0, 2.0, 3.0]))


def test_neighbors_do_not_depend_on_the_length_of_rows():
    x = unit_rows(6, 4)
    labels = torch.arange(6)
    torch.testing.assert_close(
        neighbor_scores(x * 3, labels, x, num_classes=6), neighbor_scores(x, labels, x * 5, num_classes=6)
    )


def test_autocast_changes_no_vote():
    train, test, labels = random_rows(40, 6).float(), random_rows(9, 6, seed=1).float(), torch.arange(40) % 4
    expected = neighbor_scores(train, labels, test, num_classes=4)
    with torch.autocast("cpu", torch.bfloat16):
        assert neighbor_scores(train, labels, test, num_classes=4).equal(expected)


@pytest.mark.parametrize("label", [-100, 3])
def test_labels_that_are_no_classes_are_refused(label: int):
    # Left alone, -100 would be a row that cross-entropy skips.
    x, labels = random_rows(4, 3), torch.tensor([0, 1, label, 2])
    for use in (
        lambda: linear_probe(x, labels, x, num_classes=3),
        lambda: neighbor_scores(x, labels, x, num_classes=3),
        lambda: class_ranks(x, labels),
    ):
        with pytest.raises(ValueError, match=f"`labels` must be from 0 to 2, but row 2 has {label}"):
            use()


def test_scores_that_are_no_numbers_are_refused():
    # A NaN is neither above nor equal to anything: the true class would come first.
    with pytest.raises(ValueError, match="`scores` holds rows that are not finite: row 1 is the first of 1"):
        class_ranks(torch.tensor([[0.5, 0.1], [float("nan"), 0.2]]), torch.tensor([0, 0]))
