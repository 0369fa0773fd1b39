"""All measures of two clouds of embeddings at once, those of quadratic cost on a sample of the rows."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hf_contrastive.functional.matches import as_ids
from hf_contrastive.metrics.loading import module_class


# Modules by what they ask.
GROUPS = {
    "pairs": ("alignment", "cosine_similarity"),
    "gap": ("modality_gap", "centroid_gap", "frechet_distance", "modality_separability"),
    "divergence": (
        "energy_distance",
        "maximum_mean_discrepancy",
        "smoothed_divergence",
        "hoelder_divergence",
        "cauchy_schwarz_divergence",
    ),
    "energy": ("population_energies",),
    "conflict": ("multimodal_conflict", "pairing_control"),
    "shape": ("uniformity", "spectrum", "isotropy", "gaussianity"),
    "retrieval": ("retrieval", "hubness"),
}
# Modules that go over all pairs of rows.
QUADRATIC = {
    *GROUPS["divergence"],
    *GROUPS["energy"],
    *GROUPS["conflict"],
    *GROUPS["retrieval"],
    "cosine_similarity",
    "uniformity",
}
# Modules that must know which rows match, and among these those that want them one to one.
PAIRED = {*GROUPS["pairs"], *GROUPS["energy"], *GROUPS["conflict"], "retrieval"}
ONE_TO_ONE = {*GROUPS["conflict"]}


def measure_all(
    x: Tensor,
    y: Tensor,
    *,
    x_ids: Tensor | None = None,
    y_ids: Tensor | None = None,
    groups: Sequence[str] | None = None,
    max_rows: int | None = 5000,
    seed: int = 0,
    names: tuple[str, str] = ("predictions", "references"),
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, float]:
    """
    What this package's `evaluate` modules say of two clouds, under their names.

    Args:
        x: First cloud, of shape (n, width).
        y: Second cloud, of shape (m, width).
        x_ids: Item of each row of `x`. By default row i matches row i where there are as many rows.
        y_ids: Item of each row of `y`.
        groups: Which of `GROUPS`. By default all modules for which it is known what matches.
        max_rows: Rows of each cloud that modules of quadratic cost see. None for all.
        seed: Seed of the sample, and of modules that draw.
        names: Suffixes of the values of one cloud.
        options: Options of modules by name.

    Raises:
        ValueError: A group, or a module in `options`, is not known, a group that takes no ids is asked for beside ids,
            `max_rows` is below 2, or a module refuses the rows.
    """
    chosen = [name for group in _checked_groups(groups) for name in GROUPS[group]]
    if groups is None:
        chosen = [name for name in chosen if _is_defined(name, len(x), len(y), x_ids)]
    elif x_ids is not None and (refused := [name for name in chosen if name in ONE_TO_ONE]):
        raise ValueError(
            f"In {' and '.join(refused)} row i matches row i, whatever the ids: measure them without ids, or leave their "
            f"group out of `groups`, which is {list(groups)}."
        )
    options = options or {}
    if unknown := set(options) - set(chosen):
        raise ValueError(f"`options` must be for modules of {chosen}, but got {sorted(unknown)}.")
    ids = {"prediction_ids": x_ids, "reference_ids": y_ids} if x_ids is not None else {}
    rows_x, rows_y = sample_rows(x, y, x_ids, y_ids, max_rows, seed)
    few = (x[rows_x], y[rows_y])
    few_ids = {name: z[rows] for (name, z), rows in zip(ids.items(), (rows_x, rows_y), strict=False) if z is not None}
    values: dict[str, float] = {
        f"{kind}_{name}": float(len(z))
        for kind, clouds in (("rows", (x, y)), ("quadratic_rows", few))
        for name, z in zip(names, clouds, strict=True)
    }
    for name in chosen:
        module = module_class(name)
        known = inspect.signature(module.measure).parameters
        clouds, matched = (few, few_ids) if name in QUADRATIC else ((x, y), ids)
        given = {"seed": seed} if "seed" in known else {}
        given |= {key: value for key, value in matched.items() if key in known} | dict(options.get(name, {}))
        if len(module.inputs) == 2:
            values |= module.measure(*clouds, **given)
        else:
            for suffix, z in zip(names, clouds, strict=True):
                values |= {f"{key}_{suffix}": value for key, value in module.measure(z, **given).items()}
    return values


def sample_rows(
    x: Tensor, y: Tensor, x_ids: Tensor | None, y_ids: Tensor | None, max_rows: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """
    Places of the rows of both clouds that are kept, in order: at most `max_rows` of each, rows of one item together.

    Rows of clouds of different sizes without ids are drawn from each on their own.
    """
    if max_rows is not None and max_rows < 2:
        raise ValueError(f"`max_rows` must be at least 2, or None for all rows, but got {max_rows}.")
    if max_rows is None or max(len(x), len(y)) <= max_rows:
        return torch.arange(len(x), device=x.device), torch.arange(len(y), device=y.device)
    generator = torch.Generator().manual_seed(seed)
    if x_ids is None and y_ids is None and len(x) != len(y):
        drawn = (torch.randperm(len(z), generator=generator)[:max_rows].sort().values.to(z.device) for z in (x, y))
        first, second = drawn
        return first, second
    items_of = as_ids(x, y, x_ids, y_ids)
    items, places = torch.unique(torch.cat([ids.cpu() for ids in items_of]), return_inverse=True)
    place = torch.split(torch.randperm(len(items), generator=generator)[places], [len(x), len(y)])
    counts = [torch.bincount(z, minlength=len(items)).cumsum(0) for z in place]
    kept = int(min((count <= max_rows).sum() for count in counts))
    first, second = ((z < kept).nonzero().squeeze(1).to(ids.device) for z, ids in zip(place, items_of, strict=True))
    return first, second


def _checked_groups(groups: Sequence[str] | None) -> Sequence[str]:
    if groups is None:
        return list(GROUPS)
    if isinstance(groups, str) or not set(groups) <= set(GROUPS):
        raise ValueError(f"`groups` must be a list of {', '.join(GROUPS)}, but got {groups!r}.")
    return groups


def _is_defined(name: str, num_x: int, num_y: int, ids: Tensor | None) -> bool:
    if ids is not None:
        return name not in ONE_TO_ONE
    return num_x == num_y or name not in PAIRED
