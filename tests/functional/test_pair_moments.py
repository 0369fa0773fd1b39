import inspect

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import PairMoments, alignment, modality_gap
from tests.functional.rows import random_rows


def cloud(n: int = 60, seed: int = 0) -> Tensor:
    """A cone of rows of uneven lengths."""
    return random_rows(n, 5, seed) * torch.arange(1.0, n + 1, dtype=torch.float64).unsqueeze(1) + 3


def halves(x: Tensor, y: Tensor) -> list[PairMoments]:
    made = [PairMoments(5), PairMoments(5)]
    for half, rows in zip(made, (slice(13), slice(13, 60)), strict=True):
        half.update(x[rows], y[rows])
    return made


def test_alignment_and_gap_of_pairs_are_those_of_the_rows():
    x, y = cloud(), cloud(seed=1)
    pairs = PairMoments(5)
    for left, right in zip(x.split([1, 19, 40]), y.split([1, 19, 40]), strict=True):
        pairs.update(left, right)
    assert pairs.alignment().item() == pytest.approx(alignment(x, y).item(), abs=1e-13)
    assert pairs.modality_gap().gap.item() == pytest.approx(modality_gap(x, y).gap.item(), abs=1e-13)


def test_merged_moments_and_sums_of_vectors_are_those_of_all_pairs():
    x, y = cloud(), cloud(seed=1)
    first, second = halves(x, y)
    summed = PairMoments.from_vector(first.to_vector() + second.to_vector() + PairMoments(5).to_vector(), 5)
    for pairs in (first.merge(second), summed):
        assert pairs.x.count == pairs.y.count == 60
        assert pairs.alignment().item() == pytest.approx(alignment(x, y).item(), abs=1e-13)
        assert pairs.modality_gap().gap.item() == pytest.approx(modality_gap(x, y).gap.item(), abs=1e-13)


def test_a_bad_row_of_one_side_leaves_both_out():
    pairs, y = PairMoments(5), cloud(20, seed=1)
    pairs.update(cloud(10), cloud(10, seed=1))
    y[3, 2] = float("inf")
    with pytest.raises(ValueError, match=r"^`y` holds rows that are not finite: row 13 is the first of 1\.$"):
        pairs.update(cloud(20), y)
    assert (pairs.x.count, pairs.y.count) == (10, 10)


def test_alignment_needs_a_pair():
    with pytest.raises(ValueError, match="Alignment needs at least 1 pair"):
        PairMoments(4).alignment()


def test_unpaired_rows_are_refused():
    # Past the shape checks of the test run, which users do not have.
    update = inspect.unwrap(PairMoments.update)
    with pytest.raises(ValueError, match="must match row by row"):
        update(PairMoments(5), cloud(3), cloud(4))
