"""What every measure between modalities promises, whatever it measures."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import (
    alignment,
    alignment_bound,
    cauchy_schwarz_divergence,
    centroid_gap,
    cosine_histogram,
    cosine_moments,
    cosine_quantiles,
    cosine_statistics,
    divergence_of_halves,
    effective_potential,
    energy_distance,
    frechet_distance,
    great_circle,
    hoelder_divergence,
    matched_auc,
    maximum_mean_discrepancy,
    modality_control,
    modality_separability,
    multimodal_conflict,
    pairing_control,
    population_energies,
)
from hf_contrastive.functional.checks import NonFiniteError
from tests.functional.rows import random_rows
from tests.functional.test_tiles import LargestTensor


MEASURES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "alignment bound": lambda x, y: alignment_bound(x, y, 0.5),
    "centroids": centroid_gap,
    "Cauchy-Schwarz": cauchy_schwarz_divergence,
    "conflict": lambda x, y: multimodal_conflict([x, y, x.flip(0)]),
    "control of modalities": lambda x, y: modality_control(cauchy_schwarz_divergence, x, y, shuffles=3),
    "control of pairs": lambda x, y: pairing_control(alignment, x, y, shuffles=3),
    "cosine AUC": matched_auc,
    "cosine histogram": cosine_histogram,
    "cosine moments": cosine_moments,
    "cosine quantiles": cosine_quantiles,
    "cosines": cosine_statistics,
    "divergence of halves": divergence_of_halves,
    "effective potential": lambda x, y: effective_potential(x[:5], x, y),
    "energies": population_energies,
    "energy distance": energy_distance,
    "Frechet": frechet_distance,
    "great circle": great_circle,
    "Hoelder": lambda x, y: hoelder_divergence([x, y, y[:9]]),
    "MMD": maximum_mean_discrepancy,
    "separability": modality_separability,
}
of_every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())


def numbers(value: object) -> list[float]:
    """All numbers of a result, one after the other."""
    if isinstance(value, Tensor):
        return value.double().flatten().tolist()
    return [n for part in value for n in numbers(part)] if isinstance(value, Iterable) else [float(value)]


def clouds() -> tuple[Tensor, Tensor]:
    # Values that single precision holds exactly, so that both precisions see the same rows.
    x, y = random_rows(24, 6), random_rows(24, 6, seed=1)
    return (x + 0.3).float().double(), (x + y - 0.2).float().double()


@of_every_measure
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_single_precision_has_the_digits_of_single_precision(measure: Callable, autocast: bool):
    x, y = clouds()
    expected = numbers(measure(x, y))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        actual = numbers(measure(x.float(), y.float()))
    assert actual == pytest.approx(expected, rel=2e-5, abs=2e-6)


@of_every_measure
def test_half_precision_rows_are_taken_as_what_they_are(measure: Callable):
    x, y = (z.bfloat16() for z in clouds())
    assert numbers(measure(x, y)) == pytest.approx(numbers(measure(x.float(), y.float())), rel=1e-6, abs=1e-6)


@of_every_measure
def test_one_call_is_like_the_next_and_draws_nothing(measure: Callable):
    state, (x, y) = torch.get_rng_state(), clouds()
    assert numbers(measure(x, y)) == numbers(measure(x, y))
    assert torch.get_rng_state().equal(state)


@of_every_measure
def test_lengths_do_not_count(measure: Callable):
    x, y = clouds()
    lengths = torch.arange(1.0, 25.0, dtype=torch.float64).unsqueeze(1)
    assert numbers(measure(lengths * x, y)) == pytest.approx(numbers(measure(x, y)), rel=1e-9, abs=1e-9)


@of_every_measure
def test_a_row_that_is_no_number_is_named(measure: Callable):
    x, y = clouds()
    x[13, 2] = torch.nan
    with pytest.raises(NonFiniteError, match=r"row (13|10) is the first of 1\."):
        measure(x, y)


@of_every_measure
def test_a_row_of_zeros_is_named(measure: Callable):
    x, y = clouds()
    x[13] = 0
    with pytest.raises(ValueError, match=r"row (13|10) is the first of 1\."):
        measure(x, y)


@pytest.mark.parametrize("divergence", [cauchy_schwarz_divergence, lambda x, y: hoelder_divergence([x, y, x[:900]])])
def test_divergences_of_any_sizes_hold_no_matrix_of_pairs(divergence: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 128)
    x, y = random_rows(1500, 8).float(), random_rows(1100, 8, seed=1).float()
    with LargestTensor() as memory:
        divergence(x, y)
    assert memory.largest <= max(128**2, 1500 * 8)
