"""All measures at once: which, on which rows, under which names."""

import math
from typing import Any

import pytest
import torch

from hf_contrastive.functional import energy_distance, modality_gap, retrieval_ranks, uniformity
from hf_contrastive.metrics import list_metrics
from hf_contrastive.metrics.all_measures import GROUPS, measure_all, sample_rows
from hf_contrastive.metrics.loading import module_class


GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(60, 5, generator=GENERATOR), torch.randn(60, 5, generator=GENERATOR) + 0.3
CAPTIONS = torch.randn(150, 5, generator=GENERATOR)
X_IDS, CAPTION_IDS = torch.arange(60), torch.arange(150) % 50


def test_every_module_of_two_clouds_is_in_a_group():
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted([*grouped, "contrastive_geometry", "zero_shot_accuracy"]) == [info.name for info in list_metrics()]


def test_values_are_those_of_the_modules():
    values = measure_all(X, Y)
    for name in (name for names in GROUPS.values() for name in names):
        module = module_class(name)
        if len(module.inputs) == 2:
            wanted = module.measure(X, Y)
        else:
            wanted = {f"{k}_predictions": v for k, v in module.measure(X).items()}
            wanted |= {f"{k}_references": v for k, v in module.measure(Y).items()}
        assert {k: values.pop(k) for k in wanted} == pytest.approx(wanted, nan_ok=True)
    # All that is left: no value has taken the name of another.
    assert values == dict.fromkeys(
        ("rows_predictions", "rows_references", "quadratic_rows_predictions", "quadratic_rows_references"), 60.0
    )


def test_quadratic_measures_see_a_sample_and_others_all_rows():
    values = measure_all(X, Y, groups=["gap", "divergence", "retrieval"], max_rows=20, seed=3)
    rows, same = sample_rows(X, Y, None, None, 20, 3)
    assert torch.equal(rows, same)
    assert len(rows) == values["quadratic_rows_predictions"] == values["quadratic_rows_references"] == 20
    assert values["rows_predictions"] == 60
    assert values["modality_gap"] == pytest.approx(modality_gap(X, Y).gap.item())
    assert values["energy_distance"] == pytest.approx(energy_distance(X[rows], Y[rows]).unbiased.item())
    assert values["mean_rank"] == pytest.approx(retrieval_ranks(X[rows], Y[rows]).mean().item())
    exact = measure_all(X, Y, groups=["divergence"], max_rows=None)
    assert exact["energy_distance"] == pytest.approx(energy_distance(X, Y).unbiased.item())


def test_the_seed_decides_the_sample():
    first, again, other = (sample_rows(X, Y, None, None, 20, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.sort().values)


def test_rows_of_one_item_stay_together():
    ids = X_IDS % 50, CAPTION_IDS
    rows = sample_rows(X, CAPTIONS, *ids, 30, 0)
    kept = [set(z[r].tolist()) for z, r in zip(ids, rows, strict=True)]
    assert kept[0] == kept[1]
    # Every row of the items that were drawn, three of each among the captions.
    assert len(rows[1]) == 3 * len(kept[1]) == 30


def test_unrelated_clouds_are_drawn_from_on_their_own():
    rows = sample_rows(X, CAPTIONS, None, None, 70, 0)
    assert [len(r) for r in rows] == [60, 70]
    values = measure_all(X, CAPTIONS)
    assert "energy_distance" in values
    assert not {"alignment", "recall@1", "zeta", "population_energy"} & set(values)


def test_with_ids_all_is_measured_that_needs_no_pairs_of_single_rows():
    values = measure_all(X[:50], CAPTIONS, x_ids=X_IDS[:50], y_ids=CAPTION_IDS)
    assert {"alignment", "recall@1", "population_energy", "separability"} <= set(values)
    assert "zeta" not in values


def test_names_options_and_groups():
    values = measure_all(
        X,
        Y,
        groups=["shape"],
        names=("image", "text"),
        options={"uniformity": {"t": 1.0}, "gaussianity": {"slices": 8}},
    )
    assert values["uniformity_image"] == pytest.approx(uniformity(X, t=1.0).item())
    assert values["uniformity_text"] == pytest.approx(uniformity(Y, t=1.0).item())
    assert values["rows_text"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": ["shapes"]}, r"`groups` must be a list of pairs, gap, .*, but got \['shapes'\]"),
        ({"groups": "shape"}, "`groups` must be a list of pairs, gap, .*, but got 'shape'"),
        ({"max_rows": 1}, "`max_rows` must be at least 2, or None for all rows, but got 1"),
        ({"groups": ["shape"], "options": {"retrieval": {}}}, r"`options` must be for modules of .*, but got \['retr"),
    ],
)
def test_what_is_not_known_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        measure_all(X, Y, **options)


def test_a_group_of_pairs_is_refused_for_clouds_without_pairs():
    with pytest.raises(ValueError, match="Without `query_ids` and `key_ids` row i matches row i"):
        measure_all(X, CAPTIONS, groups=["retrieval"])


def test_what_matches_row_i_with_row_i_is_refused_beside_ids():
    with pytest.raises(ValueError, match="In multimodal_conflict and pairing_control row i matches row i"):
        measure_all(X, Y, x_ids=torch.arange(60), y_ids=torch.arange(60).flip(0), groups=["conflict"])


@pytest.mark.parametrize("side", [1.0, -1.0], ids=["one point", "two opposite points"])
def test_collapsed_clouds_are_measured(side: float):
    x = torch.tensor([[3.0, 4.0, 0.0]]).repeat(30, 1)
    values = measure_all(x, side * x)
    # As said of each: tests of shape see no variance, and pairing changes nothing.
    undefined = {"anderson_darling_predictions", "anderson_darling_references", "alignment_z", "modality_gap_z"}
    assert {name for name, value in values.items() if not math.isfinite(value)} == undefined
    gap = 1 - side
    assert values["modality_gap"] == pytest.approx(gap, abs=1e-6)
    assert values["energy_distance"] == pytest.approx(2 * gap, abs=1e-6)
    # The median distance is the gap, at which the kernel is exp(-1/2); one point has no discrepancy from itself.
    assert values["mmd"] == pytest.approx(2 - 2 * math.exp(-0.5) if gap else 0.0, abs=1e-6)
    assert values["d_prime"] == 0
    assert values["recall@1"] == pytest.approx(1 / 30)
