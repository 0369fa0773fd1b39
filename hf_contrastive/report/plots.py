"""Pictures of what training did to the geometry."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional import (
    effective_rank,
    expected_effective_rank,
    isotropic_spectrum,
    modality_gap,
    spectrum,
)


if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Two hues that color-blind readers tell apart, and greys.
COLORS = ("#0072B2", "#D55E00")
MATCHED, UNMATCHED = "#222222", "#A8A8A8"
MAX_POINTS = 1000


def plot_geometry(runs: Mapping[str, Mapping[str, Float[Tensor, "n d"]]], path: str | Path) -> None:
    """
    Draw the clouds, the cosines and the spectrum of one or several runs, a row of panels each.

    Left: both modalities along the gap between their centers and along the main direction across it.
    Middle: cosines of matched and of unmatched pairs. Right: share of variance by direction.

    Args:
        runs (`dict[str, dict[str, Tensor]]`):
            By name of the run, embeddings of two modalities, matching row by row.
        path (`str` or `Path`):
            PNG file to write.

    Raises:
        ImportError: matplotlib is missing; install `hf-contrastive[recipes]`.
        ValueError: A run has another number of modalities than two.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need matplotlib: `pip install hf-contrastive[recipes]`.") from error
    # A figure of its own, not pyplot: no window, no global state.
    figure = Figure(figsize=(13, 3.9 * len(runs)), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(len(runs), 3, squeeze=False)
    for axes, (name, embeds) in zip(grid, runs.items(), strict=True):
        if len(embeds) != 2:
            raise ValueError(f"plot_geometry draws two modalities, but the run {name!r} has {sorted(embeds)}.")
        unit = {m: F.normalize(x.detach().float().cpu(), dim=1) for m, x in sorted(embeds.items())}
        _draw_clouds(axes[0], name, unit)
        _draw_cosines(axes[1], unit)
        _draw_spectrum(axes[2], unit)
    _share_limits(grid)
    figure.savefig(path, dpi=110)


def _draw_clouds(axes: "Axes", name: str, unit: Mapping[str, Tensor]) -> None:
    x, y = unit.values()
    center = (x.mean(dim=0) + y.mean(dim=0)) / 2
    directions = gap_directions(x, y)
    for color, (m, cloud) in zip(COLORS, unit.items(), strict=True):
        points = ((cloud - center) @ directions)[:MAX_POINTS]
        axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=5, alpha=0.5, color=color, linewidths=0, label=m)
    centers = torch.stack([(cloud.mean(dim=0) - center) @ directions for cloud in (x, y)])
    axes.plot(*centers.T.numpy(), color="black", linewidth=1.5, marker="o", markersize=7, markerfacecolor="white")
    gap, floor = map(float, modality_gap(x, y))
    axes.set_title(f"{name}: gap {gap:.3f} (floor {floor:.3f})")
    axes.set_xlabel("along the gap, from center to center")
    axes.set_ylabel("main direction across it")
    axes.set_aspect("equal")
    axes.legend(markerscale=3, loc="upper right")


def gap_directions(x: Tensor, y: Tensor) -> Tensor:
    """The gap's direction and the main one of both clouds at right angles to it, as columns.

    Args:
        x: Unit rows of one modality, (n, d).
        y: Unit rows of the other.
    """
    # Principal directions alone would hide a gap that is small beside the spread of the clouds, yet parts them cleanly.
    along = F.normalize(x.mean(dim=0) - y.mean(dim=0), dim=0)
    joint = torch.cat([x, y])
    joint = joint - joint.mean(dim=0)
    across = torch.linalg.svd(joint - (joint @ along).outer(along), full_matrices=False).Vh[0]
    return torch.stack([along, across], dim=1)


def _draw_cosines(axes: "Axes", unit: Mapping[str, Tensor]) -> None:
    x, y = unit.values()
    matched = (x * y).sum(dim=1)
    # Row i with row i + 1, ... : as many unmatched pairs as a histogram needs, none drawn twice.
    shifts = range(1, min(len(x), 21))
    unmatched = torch.cat([(x * y.roll(shift, dims=0)).sum(dim=1) for shift in shifts]) if len(x) > 1 else matched
    bins = torch.linspace(-1, 1, 81).tolist()
    for values, color, label in ((unmatched, UNMATCHED, "unmatched"), (matched, MATCHED, "matched")):
        axes.hist(values.numpy(), bins=bins, density=True, alpha=0.7, color=color, label=label)
    axes.set_title(f"cosines: {float(matched.mean()):.2f} matched, {float(unmatched.mean()):.2f} unmatched")
    axes.set_xlabel(f"cosine of {' and '.join(unit)}")
    axes.set_ylabel("density")
    axes.legend(loc="upper left")


def _draw_spectrum(axes: "Axes", unit: Mapping[str, Tensor]) -> None:
    for color, (m, x) in zip(COLORS, unit.items(), strict=True):
        values = spectrum(x)
        shares = (values / values.sum()).clamp(min=1e-9)
        label = f"{m}, effective rank {float(effective_rank(x)):.0f}"
        axes.plot(range(1, len(shares) + 1), shares.numpy(), color=color, label=label)
    # Few rows look far from flat even where they are evenly spread.
    even = isotropic_spectrum(x.shape[1], len(x)).clamp(min=1e-9 * x.shape[1]) / x.shape[1]
    label = f"evenly spread, {expected_effective_rank(x.shape[1], len(x)):.0f}"
    axes.plot(range(1, len(even) + 1), even.numpy(), color="grey", linestyle=":", linewidth=1, label=label)
    axes.set_yscale("log")
    axes.set_title("spectrum: variance by direction")
    axes.set_xlabel("direction, by variance")
    axes.set_ylabel("share of variance")
    axes.legend(loc="lower left")


def _share_limits(grid: Any) -> None:
    """Give the panels of a column the same axes, so that runs compare at a glance."""
    for column in (0, 1, 2):
        panels = grid[:, column]
        for get, set_ in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
            limits = [getattr(panel, get)() for panel in panels]
            for panel in panels:
                getattr(panel, set_)(min(low for low, _ in limits), max(high for _, high in limits))
