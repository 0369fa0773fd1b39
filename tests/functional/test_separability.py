import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

from hf_contrastive.functional import linear_separability, modality_separability
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


# ---- Items, chance and certainty ----


def test_accuracy_stands_beside_chance_and_its_standard_error_over_samples():
    results = [modality_separability(shifted(100, 3, 0, seed=s), shifted(100, 3, 1, seed=s + 500)) for s in range(40)]
    accuracies, errors = (torch.stack([getattr(r, name) for r in results]) for name in ("accuracy", "standard_error"))
    assert results[0].chance == 0.5
    # A deviation over 40 samples is known to 11 percent; the rule, fitted anew, adds a little.
    assert accuracies.std().item() == pytest.approx(errors.mean().item(), rel=0.35)


def test_the_standard_error_of_unrelated_rows_is_that_of_two_shares():
    x, y = shifted(300, 2, -0.75, seed=0), shifted(200, 2, 0.75, seed=1)
    actual = modality_separability(x, y)
    p = actual.accuracy.item()
    assert actual.standard_error.item() == pytest.approx((p * (1 - p) * (1 / 300 + 1 / 200) / 4) ** 0.5, rel=0.05)


def test_copies_of_a_row_that_ids_tie_together_add_no_certainty():
    x, y = shifted(100, 2, 0, seed=0), shifted(100, 2, 1.5, seed=1)
    once = modality_separability(x, y)
    ids = torch.arange(100).repeat_interleave(5)
    again = modality_separability(x, y.repeat_interleave(5, dim=0), x_ids=torch.arange(100), y_ids=ids)
    assert again.accuracy.item() == pytest.approx(once.accuracy.item(), abs=0.02)
    assert again.standard_error.item() == pytest.approx(once.standard_error.item(), rel=0.1)
    assert modality_separability(x, y.repeat_interleave(5, dim=0)).standard_error < 0.9 * once.standard_error


def test_an_item_that_is_held_out_is_not_known_from_its_other_rows():
    # Each item is a point that all its rows share; which modality it has is a coin toss, which memory alone can tell.
    items = unit_rows(12, 40)
    x, y = items[:6].repeat_interleave(10, dim=0), items[6:].repeat_interleave(10, dim=0)
    ids = torch.arange(12).repeat_interleave(10)
    known = modality_separability(x, y, x_ids=ids[:60], y_ids=ids[60:] + 100, folds=3)
    leaked = modality_separability(x, y, folds=3)
    assert leaked.accuracy.item() == 1
    assert known.accuracy.item() < 0.8


def test_items_must_fill_every_fold():
    ids = torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match="`x` must show enough items for 5 parts"):
        modality_separability(unit_rows(6, 3), unit_rows(6, 3), x_ids=ids, y_ids=torch.arange(6))
