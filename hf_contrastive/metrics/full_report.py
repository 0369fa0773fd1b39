"""Every measure of an evaluation set that is affordable, under the names that logs have."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional import (
    centroid_gap,
    chance_hubness,
    cosine_statistics,
    divergence_of_halves,
    energy_distance,
    frechet_distance,
    gaussianity,
    hubness,
    isotropic_spectrum,
    k_occurrences,
    modality_separability,
    spectrum,
    summarize_spectrum,
)
from hf_contrastive.metrics.clouds import Clouds
from hf_contrastive.metrics.report import as_floats, cheap_measures


NEIGHBORS = 10
# Fewest items that can be held out in five parts, or in two halves of several rows each; fewest rows of tests of shape.
MIN_ITEMS, MIN_TESTED = 10, 20


@torch.no_grad()
def full_geometry_report(
    embeds: Mapping[str, Float[Tensor, "n d"]],
    *,
    ids: Int[Tensor, "n"] | None = None,
    max_rows: int = 2048,
    seed: int = 0,
) -> dict[str, float]:
    """[`geometry_report`] of all rows, exactly, and what takes longer: separability, distances of distributions, spectrum,
    shape and hubs.

    Energy distance, divergence and hubs compare all pairs of rows of a seeded sample; `geometry/quadratic_rows_image`
    says how many where these are not all, and divergence and hubs compare at one number of rows only. So do tests of
    shape, whose rows are `geometry/gaussianity_rows_image`. What a set is too small for, or has no number for, is left
    out.

    Args:
        embeds: Matching embeddings by modality, row i of each the same example, at least two.
        ids: What each row shows, as in [`geometry_report`]. Rows of one id are held out together.
        max_rows: Rows of the sample.
        seed: Seed of the sample, of the parts that are held out, and of random directions.
    """
    clouds = Clouds(embeds, ids)
    report = cheap_measures(clouds)
    few = Clouds(embeds, ids, max_rows=max_rows, seed=seed)
    for m, x in clouds.whole.items():
        report |= _of_one(m, x, seed)
    for m, n in clouds.pairs():
        report |= _of_pair(clouds, m, n, seed) | _of_sampled_pair(few, m, n, seed)
    return as_floats(report | few.quadratic_rows())


def _of_one(m: str, x: Tensor, seed: int) -> dict[str, Tensor | float]:
    if len(x) < 2:
        return {}
    own = summarize_spectrum(spectrum(x, normalize=False))
    even = summarize_spectrum(isotropic_spectrum(x.shape[1], len(x)))
    report: dict[str, Tensor | float] = {}
    # The effective rank is in double precision, unlike that of the logs.
    for name in ("effective_rank", "participation_ratio", "top_share", "condition_number"):
        report |= {f"{name}_{m}": getattr(own, name), f"{name}_isotropic_{m}": float(getattr(even, name))}
    if len(x) >= MIN_TESTED:
        shape = gaussianity(x, seed=seed, normalize=False)
        report |= {f"anderson_darling_{m}": shape.anderson_darling, f"epps_pulley_{m}": shape.epps_pulley}
        report[f"gaussianity_rows_{m}"] = float(shape.num_rows)
    return report


def _of_pair(clouds: Clouds, m: str, n: str, seed: int) -> dict[str, Tensor | float]:
    x, y, name = clouds.whole[m], clouds.whole[n], f"{m}_{n}"
    x_ids, y_ids = clouds.ids[m], clouds.ids[n]
    report: dict[str, Tensor | float] = {}
    if min(len(x), len(y)) > 1:
        gap = centroid_gap(x, y, normalize=False)
        report |= {f"gap_variance_share_{name}": gap.share, f"gap_variance_share_floor_{name}": gap.share_floor}
        distance = frechet_distance(x, y, seed=seed, normalize=False)
        report |= {f"frechet_distance_{name}": distance.squared, f"frechet_distance_floor_{name}": distance.floor}
    if clouds.num_items > 1:
        cosines = cosine_statistics(x, y, x_ids=x_ids, y_ids=y_ids, normalize=False)
        report |= {
            f"matched_cosine_std_{name}": cosines.matched_std,
            f"unmatched_cosine_std_{name}": cosines.unmatched_std,
            f"d_prime_{name}": cosines.d_prime,
        }
    if clouds.num_items >= MIN_ITEMS:
        held_out = modality_separability(x, y, x_ids=x_ids, y_ids=y_ids, seed=seed, normalize=False)
        report |= {
            f"separability_{name}": held_out.accuracy,
            f"separability_standard_error_{name}": held_out.standard_error,
        }
    return report


def _of_sampled_pair(clouds: Clouds, m: str, n: str, seed: int) -> dict[str, Tensor | float]:
    x, y, name = clouds.sampled[m], clouds.sampled[n], f"{m}_{n}"
    report: dict[str, Tensor | float] = {}
    if min(len(x), len(y)) > 1:
        distance = energy_distance(x, y, normalize=False)
        report |= {f"energy_distance_{name}": distance.unbiased, f"energy_distance_null_std_{name}": distance.null_std}
    if clouds.num_items >= MIN_ITEMS:
        x_ids, y_ids = clouds.sampled_ids(m), clouds.sampled_ids(n)
        halves = divergence_of_halves(x, y, x_ids=x_ids, y_ids=y_ids, seed=seed, normalize=False)
        report |= {f"smoothed_divergence_{name}": halves.divergence, f"smoothed_divergence_floor_{name}": halves.floor}
    if min(len(x), len(y)) > NEIGHBORS:
        for direction, queries, keys in ((f"{m}_to_{n}", x, y), (f"{n}_to_{m}", y, x)):
            found = hubness(k_occurrences(queries, keys, k=NEIGHBORS, normalize=False))
            chance = chance_hubness(len(queries), len(keys), k=NEIGHBORS)
            report |= {
                f"hubness_skewness_{direction}": found.skewness,
                f"hubness_skewness_chance_{direction}": float(chance.skewness),
                f"hubness_antihubs_{direction}": found.antihubs,
                f"hubness_antihubs_chance_{direction}": float(chance.antihubs),
            }
    return report
