"""Each value of an `evaluate` module is what the functional core calls by another name, on the side that it says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_contrastive import functional as f
from hf_contrastive.metrics.loading import module_class


GENERATOR = torch.Generator().manual_seed(0)
# Unlike in all: number of rows, center, spread.
X, Y = torch.randn(48, 5, generator=GENERATOR) + 0.2, torch.randn(36, 5, generator=GENERATOR) * torch.arange(1.0, 6)
X_IDS, Y_IDS = torch.arange(48) % 12, torch.arange(36) % 12
IDS = {"x_ids": X_IDS, "y_ids": Y_IDS}
GIVEN = {"prediction_ids": X_IDS, "reference_ids": Y_IDS}


def measure(name: str, *rows: Tensor, **options: Any) -> dict[str, float]:
    return module_class(name).measure(*rows, **options)


def check(name: str, found: tuple[Any, ...], names: dict[str, str], **options: Any) -> None:
    """Whether each of `names` of a module has the value of that field, and there are no others."""
    values = measure(name, X, Y, **options)
    assert values == {ours: pytest.approx(float(getattr(found, theirs)), rel=1e-6) for ours, theirs in names.items()}


def test_centroid_gap():
    names = {"centroid_gap_squared": "squared", "centroid_gap_null_std": "null_std", "centroid_cosine": "cosine"}
    names |= {"centroid_norm_predictions": "norm_x", "centroid_norm_references": "norm_y"}
    names |= {"centroid_norm_predictions_floor": "norm_floor_x", "centroid_norm_references_floor": "norm_floor_y"}
    names |= {"gap_variance_share": "share", "gap_variance_share_floor": "share_floor"}
    check("centroid_gap", f.centroid_gap(X, Y), names)


def test_cosine_similarity():
    values = measure("cosine_similarity", X, Y, **GIVEN)
    cosines = f.cosine_statistics(X, Y, **IDS)
    assert values.pop("auc") == pytest.approx(f.matched_auc(X, Y, **IDS).item())
    names = {f"{kind}_cosine_{of}": f"{kind}_{of}" for kind in ("matched", "unmatched") for of in ("mean", "std")}
    names |= {"unmatched_cosine_std_uniform": "uniform_std", "d_prime": "d_prime"}
    names |= {"centroid_inner_product": "expected_unmatched"}
    assert values == {ours: pytest.approx(float(getattr(cosines, theirs))) for ours, theirs in names.items()}
    assert "auc" not in measure("cosine_similarity", X, Y, **GIVEN, auc=False)


@pytest.mark.parametrize(
    ("name", "prefix", "function", "options"),
    [
        ("energy_distance", "energy_distance", f.energy_distance, {}),
        ("maximum_mean_discrepancy", "mmd", f.maximum_mean_discrepancy, {}),
        ("maximum_mean_discrepancy", "mmd", f.maximum_mean_discrepancy, {"bandwidth": 0.5}),
    ],
)
def test_two_sample_distances(name: str, prefix: str, function: Callable[..., Any], options: dict[str, float]):
    values, distance = measure(name, X, Y, **options), function(X, Y, **options)
    assert values[prefix] == pytest.approx(distance.unbiased.item())
    for field in ("biased", "floor", "null_std"):
        assert values[f"{prefix}_{field}"] == pytest.approx(float(getattr(distance, field)))
    if prefix == "mmd":
        assert values["mmd_bandwidth"] == pytest.approx(options.get("bandwidth", f.median_bandwidth(X, Y)))


def test_smoothed_divergence():
    names = {"smoothed_divergence": "divergence", "smoothed_divergence_floor": "floor"}
    names |= {"smoothed_divergence_predictions": "x_from_y", "smoothed_divergence_references": "y_from_x"}
    check("smoothed_divergence", f.divergence_of_halves(X, Y, **IDS), names, **GIVEN)


@pytest.mark.parametrize("name", ["hoelder_divergence", "cauchy_schwarz_divergence"])
def test_divergences_beside_random_deals(name: str):
    values = measure(name, X, Y)
    factor = 2 if name.startswith("cauchy") else 1
    assert values[name] == pytest.approx(factor * f.hoelder_divergence([X, Y]).item(), rel=1e-5)
    # These clouds differ: by far more than dealt rows do.
    assert abs(values[f"{name}_dealt_mean"]) < values[name] / 2
    assert values[f"{name}_dealt_std"] > 0


def test_frechet_distance():
    names = {"frechet_distance": "squared", "frechet_distance_means": "between_means"}
    names |= {"frechet_distance_covariances": "between_covariances", "frechet_distance_floor": "floor"}
    check("frechet_distance", f.frechet_distance(X, Y), names)


def test_modality_separability():
    names = {"separability": "accuracy", "separability_chance": "chance"}
    names |= {"separability_standard_error": "standard_error"}
    check("modality_separability", f.modality_separability(X, Y, **IDS), names, **GIVEN)


def test_population_energies():
    names = {"population_energy": "energy", "population_energy_reference": "reference"}
    names |= {"alignment_energy": "alignment", "energy_divergence": "divergence", "entropy_ceiling": "entropy_ceiling"}
    for kind in ("cross_entropy", "entropy", "free_energy"):
        names |= {f"{kind}_predictions": f"{kind}_x", f"{kind}_references": f"{kind}_y"}
    check("population_energies", f.population_energies(X, Y, **IDS), names, **GIVEN)


def test_conflict_falls_to_that_of_random_pairs():
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    values = measure("multimodal_conflict", x, x, temperature=1.0)
    conflict = f.multimodal_conflict([x, x], temperature=1.0)
    assert values["zeta"] == pytest.approx(conflict.zeta.mean().item())
    assert values["zeta_shuffled_mean"] < values["zeta"]
    assert (values["chi"], values["chi_limit"]) == (pytest.approx(0, abs=1e-7), 0)


def test_spectrum_of_a_round_cloud_is_its_reference():
    rows = torch.randn(4000, 24, generator=torch.Generator().manual_seed(1))
    values = measure("spectrum", rows)
    eigenvalues = f.spectrum(rows)
    assert values["condition_number"] == pytest.approx(f.condition_number(eigenvalues, ridge=1e-3).item())
    assert values["rank_me"] == pytest.approx(f.rank_me(rows).item())
    assert values["participation_ratio"] == pytest.approx(f.participation_ratio(eigenvalues).item())
    own = [name for name in values if not name.endswith("_isotropic")]
    # Top share and condition number scatter most.
    for name in own:
        assert values[name] == pytest.approx(values[f"{name}_isotropic"], rel=0.1), name
    assert values["rank_me"] == pytest.approx(values["rank_me_isotropic"], rel=1e-3)


def test_isotropy():
    values, cosine, center = measure("isotropy", X), f.mean_cosine(X), f.centroid_norm(X)
    assert values == {
        "mean_cosine": pytest.approx(cosine.cosine.item()),
        "mean_cosine_deviation": pytest.approx(cosine.deviation.item()),
        "mean_row_norm": pytest.approx(center.norm.item()),
        "mean_row_norm_floor": pytest.approx(center.floor.item()),
    }


def test_gaussianity():
    values, found = (
        measure("gaussianity", X, num_rows=30, normalize=False),
        f.gaussianity(X, num_rows=30, normalize=False),
    )
    for name in ("anderson_darling", "anderson_darling_share", "dagostino_pearson", "epps_pulley"):
        assert values[name] == pytest.approx(float(getattr(found, name)))
        assert values[f"{name}_gaussian"] == pytest.approx(float(getattr(f.expected_gaussianity(30), name)))
    assert (values["norm_variation"], values["norm_variation_gaussian"]) == pytest.approx(
        [float(value) for value in f.norm_variation(X)]
    )
    assert values["gaussianity_rows"] == 30


def test_hubness_of_both_directions():
    values = measure("hubness", X, Y, k=3)
    for prefix, queries, keys in (("", X, Y), ("reverse_", Y, X)):
        found = f.hubness(f.k_occurrences(queries, keys, k=3))
        chance = f.chance_hubness(len(queries), len(keys), k=3)
        for name in found._fields:
            assert values[f"{prefix}hubness_{name}"] == pytest.approx(float(getattr(found, name)))
            assert values[f"{prefix}hubness_{name}_chance"] == pytest.approx(float(getattr(chance, name)))


@pytest.mark.parametrize("relevance", [True, False])
def test_retrieval_of_both_directions(relevance: bool):
    values = measure("retrieval", X, Y, **GIVEN, ks=[2], gain_at=4, relevance=relevance)
    sides = ("", X, Y, X_IDS, Y_IDS), ("reverse_", Y, X, Y_IDS, X_IDS)
    for prefix, queries, keys, query_ids, key_ids in sides:
        ranks, graded = f.retrieval_relevance(queries, keys, query_ids=query_ids, key_ids=key_ids, k=4)
        chance = f.RetrievalChance(len(keys), f.count_matches(query_ids, key_ids))
        wanted = {
            "recall@2": (ranks.recall(2), chance.recall(2)),
            "median_rank": (ranks.median(), chance.median()),
            "mean_rank": (ranks.mean(), chance.mean()),
            "mrr": (ranks.mean_reciprocal(), chance.mean_reciprocal()),
        }
        if relevance:
            wanted["map"] = graded.average_precision.mean(), chance.average_precision()
            wanted["ndcg@4"] = graded.gain.mean(), chance.gain(4)
        for name, (value, at_random) in wanted.items():
            assert values.pop(f"{prefix}{name}") == pytest.approx(float(value))
            assert values.pop(f"{prefix}{name}_chance") == pytest.approx(float(at_random))
    assert values == {}


def test_a_collapsed_model_retrieves_at_chance():
    values = measure("retrieval", torch.ones(20, 3), torch.ones(20, 3))
    for name in ("recall@1", "recall@10", "median_rank", "mean_rank"):
        assert values[name] == pytest.approx(values[f"{name}_chance"], rel=1e-6)


def test_zero_shot_accuracy():
    classes, prompts = torch.arange(48) % 4, torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    values = measure("zero_shot_accuracy", X, classes, prototypes=prompts.tolist(), ks=(1, 2))
    for k in (1, 2):
        found = f.zero_shot_accuracy(X, prompts, classes, k=k)
        assert values[f"zero_shot_accuracy@{k}"] == pytest.approx(found.accuracy.item())
        assert values[f"zero_shot_mean_per_class@{k}"] == pytest.approx(found.mean_per_class.item())
        assert values[f"zero_shot_chance@{k}"] == k / 4


def test_pairing_moves_measures_of_pairs_and_no_others():
    noisy = X + 0.1 * torch.randn(48, 5, generator=torch.Generator().manual_seed(1))
    names = ["alignment", "recall@1", "mrr", "d_prime", "modality_gap", "energy_distance"]
    values = measure("pairing_control", X, noisy, statistics=names)
    for name in names[:4]:
        assert abs(values[f"{name}_z"]) > 3, name
        assert values[f"{name}_p"] == pytest.approx(1 / 21)
    for name in names[4:]:
        assert values[f"{name}_paired"] == pytest.approx(values[f"{name}_shuffled_mean"], abs=1e-12)
        assert values[f"{name}_p"] == 1
    assert values["recall@1_shuffled_mean"] < 0.1 < values["recall@1_paired"]
