"""Curves behind the plots of a page that are no part of the numbers: made of the embeddings when a page is written."""

import math
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.diagnosis.embedding import draw_rows
from hf_contrastive.diagnosis.result import Diagnosis, PairDiagnosis
from hf_contrastive.diagnosis.table import labels
from hf_contrastive.functional import (
    CoordinateQuantiles,
    Hubness,
    HubnessBins,
    NormVariation,
    Quantiles,
    chance_hubness,
    coordinate_quantiles,
    effective_potential,
    great_circle,
    hubness,
    isotropic_spectrum,
    k_occurrences,
    norm_quantiles,
    norm_variation,
    one_row_per_id,
    recall_by_hubness,
)


# Rows of which curves over pairs are made: more would change no picture.
MAX_ROWS = 4000
NEIGHBORS = 10
BINS = 10
QUANTILES = 99
ANGLES = 361


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one modality is spread.

    Args:
        spectrum: Share of variance by direction, largest first.
        isotropic: The same of as many rows of a cloud that is round.
        norms: Lengths against those of a Gaussian.
        variation: Coefficient of variation of the lengths, and that of a Gaussian.
        coordinates: Coordinates against a Gaussian's.
    """

    spectrum: Float[Tensor, "d"]
    isotropic: Float[Tensor, "d"]
    norms: Quantiles
    variation: NormVariation
    coordinates: CoordinateQuantiles


@dataclass(frozen=True, kw_only=True)
class Search:
    """How queries of one modality find rows of another.

    Args:
        query: The modality that searches.
        key: The modality that is searched.
        k: Nearest keys of a query that count as found.
        occurrences: How many queries find each key.
        hubs: What they are like.
        chance: The same of neighbors that are drawn at random.
        bins: Recall by how often matches are found.
    """

    query: str
    key: str
    k: int
    occurrences: Float[Tensor, "m"]
    hubs: Hubness
    chance: Hubness
    bins: HubnessBins


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The great circle through the centers of two modalities.

    Args:
        angles: Places on it in degrees, the first center at 0.
        second_center: Place of the second center.
        potentials: Effective potential of each modality there, in units of the temperature, its least value 0.
        barriers: How much each modality would have to climb from its own center to the other's.
        temperature: Temperature of the potential.
    """

    angles: Float[Tensor, "q"]
    second_center: float
    potentials: dict[str, Float[Tensor, "q"]]
    barriers: dict[str, float]
    temperature: float


def shape_of(one: Diagnosis, modality: str) -> Shape:
    """Spectrum and quantiles of a modality."""
    x, values = one.embeds[modality], torch.tensor(one.spectra[modality], dtype=torch.float64)
    isotropic = isotropic_spectrum(one.width, one.rows)
    return Shape(
        spectrum=values / values.sum().clamp(min=torch.finfo(values.dtype).tiny),
        isotropic=isotropic / isotropic.sum(),
        norms=norm_quantiles(x, points=QUANTILES),
        variation=norm_variation(x),
        coordinates=coordinate_quantiles(x, points=QUANTILES),
    )


def search_of(one: Diagnosis, query: str, key: str) -> Search | None:
    """Hubs among the rows that are searched; nothing where there are too few rows to tell."""
    rows = torch.tensor(draw_rows(one.rows, MAX_ROWS, one.seed))
    x, y = one.embeds[query][rows], one.embeds[key][rows]
    ids = torch.arange(len(rows)) if one.ids is None else one.ids[rows]
    kept, kept_keys = one_row_per_id(x, ids), one_row_per_id(y, ids)
    x, y, x_ids, y_ids = x[kept], y[kept_keys], ids[kept], ids[kept_keys]
    k, bins = min(NEIGHBORS, len(y) // 2), min(BINS, len(x) // 5)
    if k < 1 or bins < 2:
        return None
    occurrences = k_occurrences(x, y, k=k)
    return Search(
        query=query,
        key=key,
        k=k,
        occurrences=occurrences,
        hubs=hubness(occurrences),
        chance=chance_hubness(len(x), len(y), k=k),
        bins=recall_by_hubness(x, y, query_ids=x_ids, key_ids=y_ids, k=k, bins=bins),
    )


def axis_of(one: Diagnosis, pair: PairDiagnosis) -> Axis | None:
    """The potential along the gap's axis; nothing where the centers have no circle of their own."""
    rows = torch.tensor(draw_rows(one.rows, MAX_ROWS, one.seed))
    x, y = one.embeds[pair.first][rows], one.embeds[pair.second][rows]
    temperatures = pair.trials.temperatures
    temperature = temperatures.own or temperatures.best
    try:
        circle = great_circle(x, y, num_points=ANGLES)
    except ValueError:
        # Both centers are on one line through the origin: there is no axis to draw.
        return None
    second = float(circle.angle_between)
    potentials, barriers = {}, {}
    # With half a step to spare, so that centers nearer to each other than a step have a place between them.
    spare = math.pi / (ANGLES - 1)
    between = (circle.angles >= -spare) & (circle.angles <= second + spare)
    for modality, (own, other) in {pair.first: (x, y), pair.second: (y, x)}.items():
        values = effective_potential(circle.points, own, other, temperature=temperature).potential.double()
        potentials[modality] = values - values.min()
        inside = values[between]
        start = inside[0] if modality == pair.first else inside[-1]
        barriers[modality] = float(inside.max() - start)
    return Axis(
        angles=circle.angles.rad2deg(),
        second_center=second * 180 / torch.pi,
        potentials=potentials,
        barriers=barriers,
        temperature=temperature,
    )


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model of a page: its diagnosis, what the page calls it, and its curves.

    Args:
        label: Its name there, which no other model of the page has.
        one: Its diagnosis.
        shapes: By modality.
        searches: By query and key, where there are rows enough.
        axes: By pair, where the centers have a circle.
    """

    label: str
    one: Diagnosis
    shapes: dict[str, Shape]
    searches: dict[tuple[str, str], Search]
    axes: dict[tuple[str, str], Axis]


def sides_of(diagnosis: Diagnosis) -> list[Side]:
    """All models of a page with their curves."""
    sides = []
    for label, one in zip(labels(diagnosis), diagnosis.all, strict=True):
        searches = {names: search_of(one, *names) for names in permutations(one.modalities, 2)}
        axes = {(pair.first, pair.second): axis_of(one, pair) for pair in one.pairs}
        sides.append(
            Side(
                label=label,
                one=one,
                shapes={m: shape_of(one, m) for m in one.modalities},
                searches={names: found for names, found in searches.items() if found is not None},
                axes={names: found for names, found in axes.items() if found is not None},
            )
        )
    return sides
