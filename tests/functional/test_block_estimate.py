import math

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import alignment, block_estimate, energy_distance, modality_gap
from tests.functional.rows import random_rows, unit_rows


def test_it_is_the_mean_over_disjoint_parts_of_matched_rows():
    x, y = torch.arange(20.0).unsqueeze(1), -torch.arange(20.0).unsqueeze(1)
    seen: list[Tensor] = []

    def statistic(a: Tensor, b: Tensor) -> Tensor:
        assert torch.equal(a, -b)
        seen.append(a.flatten())
        return a.sum()

    found = block_estimate(statistic, x, y, block_rows=4, blocks=5, seed=3)
    assert sorted(torch.cat(seen).tolist()) == list(range(20))
    sums = [float(part.sum()) for part in seen]
    assert found.value == pytest.approx(sum(sums) / 5)
    deviation = math.sqrt(sum((value - found.value) ** 2 for value in sums) / 4)
    assert found.standard_error == pytest.approx(deviation / math.sqrt(5))
    assert (found.blocks, found.block_rows) == (5, 4)


def test_clouds_of_different_sizes_are_drawn_from_on_their_own():
    x, y = torch.arange(12.0).unsqueeze(1), torch.arange(13.0).unsqueeze(1)
    parts: list[tuple[Tensor, Tensor]] = []
    block_estimate(lambda a, b: parts.append((a, b)) or 0.0, x, y, block_rows=3, blocks=4)
    assert not torch.equal(*(torch.cat(side) for side in zip(*parts, strict=True)))
    for side in zip(*parts, strict=True):
        assert len(torch.cat(side).unique()) == 12


def test_unbiased_statistics_come_out_as_of_all_rows_within_the_error_that_is_said():
    x = random_rows(2000, 3)
    y = random_rows(2000, 3, seed=1) + 0.3

    def statistic(a: Tensor, b: Tensor) -> Tensor:
        return energy_distance(a, b).unbiased

    exact = float(statistic(x, y))
    found = [block_estimate(statistic, x, y, block_rows=50, blocks=20, seed=seed) for seed in range(20)]
    errors = torch.tensor([estimate.value - exact for estimate in found])
    said = sum(estimate.standard_error for estimate in found) / 20
    # Half of the rows leave 0.7 of the error of independent samples; 20 draws tell a deviation to within a third.
    assert 0.4 * said < float(errors.std()) < 1.2 * said
    assert abs(float(errors.mean())) < said


def test_the_seed_decides_the_parts():
    x = unit_rows(40, 3)
    first, again, other = (block_estimate(alignment, x, x.flip(0), block_rows=5, blocks=4, seed=s) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_rows": 6, "blocks": 4}, r"4 `blocks` of 6 `block_rows` need 24 rows, but `clouds\[0\]` has 20"),
        ({"block_rows": 0}, "`block_rows` must be at least 1, but got 0"),
        ({"blocks": 1}, "`blocks` must be at least 2, but got 1"),
    ],
)
def test_impossible_parts_are_refused(options: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        block_estimate(lambda x, y: modality_gap(x, y).gap, unit_rows(20, 3), unit_rows(30, 3), **options)


def test_something_must_be_measured():
    with pytest.raises(ValueError, match="`clouds` must be at least one"):
        block_estimate(lambda: 0.0)
