import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

from hf_contrastive.functional import linear_separability
from tests.functional.rows import random_rows, unit_rows


def shifted(n: int, d: int, offset: float, seed: int) -> Tensor:
    return random_rows(n, d, seed) + offset * torch.eye(d, dtype=torch.float64)[0]


@pytest.mark.parametrize("sizes", [(500, 500), (500, 300)])
def test_two_samples_of_one_cloud_cannot_be_told_apart(sizes: tuple[int, int]):
    # Over seeds the accuracy has a standard deviation of about 0.02 at these sizes.
    accuracy = linear_separability(unit_rows(sizes[0], 6), unit_rows(sizes[1], 6, seed=1))
    assert accuracy.item() == pytest.approx(0.5, abs=0.06)


def test_a_cloud_cannot_be_told_from_itself():
    x = unit_rows(40, 4)
    assert linear_separability(x, x).item() == pytest.approx(0.5, abs=1e-6)


def test_a_collapsed_model_has_nothing_to_tell_apart():
    assert linear_separability(torch.ones(20, 3), torch.ones(20, 3)).item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("sizes", [(50, 50), (50, 20)])
def test_clouds_far_apart_are_told_apart_without_error(sizes: tuple[int, int]):
    x, y = shifted(sizes[0], 4, 20, seed=0), shifted(sizes[1], 4, -20, seed=1)
    assert linear_separability(x, y).item() == 1


def test_collapsed_clouds_at_different_points_are_told_apart():
    assert linear_separability(torch.eye(2)[:1].expand(9, 2), torch.eye(2)[1:].expand(9, 2)).item() == 1


@pytest.mark.parametrize("offset", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("sizes", [(600, 600), (600, 200)])
def test_accuracy_agrees_with_the_discriminant_analysis_of_scikit_learn(offset: float, sizes: tuple[int, int]):
    clouds = shifted(sizes[0], 5, 0, seed=0), shifted(sizes[1], 5, offset, seed=1)
    labels = [0] * sizes[0] + [1] * sizes[1]
    expected = cross_val_score(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3, priors=[0.5, 0.5]),
        torch.cat(clouds).numpy(),
        labels,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        scoring="balanced_accuracy",
    ).mean()
    assert linear_separability(*clouds, normalize=False).item() == pytest.approx(expected, abs=0.02)


def test_both_clouds_count_alike_and_their_order_does_not():
    x, y = shifted(300, 5, 0, seed=0), shifted(300, 5, 1, seed=1)
    forward, backward = linear_separability(x, y), linear_separability(y, x)
    assert forward.item() == pytest.approx(backward.item(), abs=1e-6)


def test_one_seed_gives_one_value_and_leaves_the_global_generator_alone():
    x, y = unit_rows(50, 4), unit_rows(50, 4, seed=1)
    state = torch.get_rng_state()
    assert linear_separability(x, y, seed=3).item() == linear_separability(x, y, seed=3).item()
    assert torch.get_rng_state().equal(state)
    assert len({linear_separability(x, y, seed=seed).item() for seed in range(5)}) > 1


def test_lengths_count_on_request_only():
    x, y = unit_rows(200, 3).abs(), 5 * unit_rows(200, 3, seed=1).abs()
    assert linear_separability(x, y).item() < 0.6
    assert linear_separability(x, y, normalize=False).item() > 0.95


@pytest.mark.parametrize("folds", [1, 0])
def test_fewer_than_two_folds_are_refused(folds: int):
    with pytest.raises(ValueError, match=rf"^`folds` must be at least 2, but got {folds}\.$"):
        linear_separability(unit_rows(5, 3), unit_rows(5, 3), folds=folds)


def test_every_fold_needs_a_row():
    with pytest.raises(ValueError, match=r"^`y` must have at least 5 rows, but got shape \[4, 3\]\.$"):
        linear_separability(unit_rows(5, 3), unit_rows(4, 3))
    assert linear_separability(unit_rows(5, 3), unit_rows(5, 3, seed=1)).isfinite()
