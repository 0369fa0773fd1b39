"""Plots of the clouds: where they are, what parts them, how their cosines are spread, what the loss makes of the gap."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F

from hf_contrastive.diagnosis.curves import Side
from hf_contrastive.diagnosis.drawing import GREY, HUES, INK, Axes, grid, legend, share_limits, shown
from hf_contrastive.diagnosis.reading_facts import PARTS
from hf_contrastive.report.plots import gap_directions


# Matched rows that a line joins: more would hide the dots.
JOINED = 25


def draw_composition(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """A bar of the clouds' distance and one of two halves."""
    for axes, side in zip(panels, sides, strict=True):
        composition = side.one.pair(first, second).composition
        for row, parts in enumerate((composition.clouds_control, composition.clouds)):
            left = 0.0
            for part, color in zip(PARTS, HUES[2:], strict=True):
                value = max(parts[part], 0.0)
                axes.barh(row, value, left=left, height=0.5, color=color, label=part if row else None)
                left += value
            axes.text(left, row, f" {parts['total']:.4f}", va="center", ha="left")
        axes.set_yticks([0, 1], ["halves", "clouds"])
        axes.set_ylim(-0.6, 1.6)
        axes.margins(x=0.2)
        axes.set_xlim(left=0)
        axes.set_xlabel("squared distance")
        grid(axes, "x")
        legend(axes, columns=4)
    share_limits(panels)


def draw_clouds(panels: Sequence[Axes], sides: Sequence[Side]) -> None:
    """Rows on the first two directions of all modalities together."""
    for axes, side in zip(panels, sides, strict=True):
        projection = side.one.projection
        points = {m: x.numpy() for m, x in projection.points.items()}
        clouds = list(points.values())
        for color, (m, x) in zip(_hues(len(points)), points.items(), strict=True):
            # Thousands of dots are smaller as pixels than as shapes.
            axes.scatter(x[:, 0], x[:, 1], s=6, alpha=0.45, color=color, linewidths=0, label=shown(m), rasterized=True)
        for i in range(min(JOINED, len(clouds[0]))):
            for x, y in pairwise(clouds):
                axes.plot([x[i, 0], y[i, 0]], [x[i, 1], y[i, 1]], color=INK, alpha=0.5, linewidth=0.5)
        for color, center in zip(_hues(len(points)), projection.centers.values(), strict=True):
            axes.plot(
                *center.tolist(), "o", markersize=9, markerfacecolor=color, markeredgecolor=INK, markeredgewidth=1.6
            )
        axes.set_xlabel(f"first direction, {projection.shares[0]:.0%} of variance")
        axes.set_ylabel(f"second, {projection.shares[1]:.0%}")
        legend(axes, markers=2.5)
    share_limits(panels)


def draw_gap(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """Rows along the line from center to center, and along the main direction across it."""
    for axes, side in zip(panels, sides, strict=True):
        rows = side.one.projection.rows
        x, y = (F.normalize(side.one.embeds[m].float(), dim=1) for m in (first, second))
        center, directions = (x.mean(dim=0) + y.mean(dim=0)) / 2, gap_directions(x, y)
        for color, name, cloud in zip(HUES, (first, second), (x, y), strict=False):
            points = ((cloud - center) @ directions).numpy()
            chosen = points[rows.numpy()]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=6,
                alpha=0.45,
                color=color,
                linewidths=0,
                label=shown(name),
                rasterized=True,
            )
        for color, cloud in zip(HUES, (x, y), strict=False):
            place = ((cloud.mean(dim=0) - center) @ directions).tolist()
            axes.plot(*place, "o", markersize=9, markerfacecolor=color, markeredgecolor=INK, markeredgewidth=1.6)
        axes.set_xlabel("along the gap, from center to center")
        axes.set_ylabel("main direction across it")
        legend(axes, markers=2.5)
    share_limits(panels)


def draw_cosines(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """Densities of matched, unmatched and permuted rows."""
    for axes, side in zip(panels, sides, strict=True):
        cosines = side.one.pair(first, second).cosines
        edges = list(cosines.edges)
        axes.stairs(
            cosines.unmatched,
            edges,
            fill=True,
            color=GREY,
            alpha=0.6,
            label=f"unmatched {cosines.means['unmatched']:.2f}",
        )
        axes.stairs(
            cosines.matched,
            edges,
            fill=True,
            color=HUES[0],
            alpha=0.7,
            label=f"matched {cosines.means['matched']:.2f}",
        )
        axes.stairs(
            cosines.permuted,
            edges,
            color=INK,
            linestyle="--",
            linewidth=0.8,
            label=f"permuted {cosines.means['permuted']:.2f}",
        )
        axes.set_xlim(*_filled(cosines.edges, cosines.matched, cosines.unmatched, cosines.permuted))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("cosine")
        axes.set_ylabel("density")
        legend(axes)
    share_limits(panels)


def _filled(edges: Sequence[float], *densities: Sequence[float]) -> tuple[float, float]:
    """Ends of the bins that hold anything, with one to spare."""
    filled = [i for i in range(len(edges) - 1) if any(density[i] > 0 for density in densities)]
    return edges[max(filled[0] - 1, 0)], edges[min(filled[-1] + 2, len(edges) - 1)]


def draw_potential(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """The potential of both modalities along the circle through their centers."""
    for axes, side in zip(panels, sides, strict=True):
        axis = side.axes[first, second]
        for color, dashes, (m, values) in zip(HUES, ("-", "--"), axis.potentials.items(), strict=False):
            axes.plot(axis.angles.numpy(), values.numpy(), dashes, color=color, label=f"potential of {shown(m)}")
        for color, place in ((HUES[0], 0.0), (HUES[1], axis.second_center)):
            axes.axvline(place, color=color, linewidth=0.8, linestyle=":")
        axes.set_xlim(-180, 180)
        axes.set_xticks(range(-180, 181, 60))
        axes.set_xlabel(f"degrees from the center of {shown(first)}", parse_math=False)
        axes.set_ylabel("potential, lowest 0")
        # What is flat looks flat, and ticks fit into the margin.
        axes.set_ylim(top=max(axes.get_ylim()[1], 0.1))
        grid(axes)
        legend(axes)
    share_limits(panels)


def _hues(number: int) -> list[str]:
    return [HUES[i % len(HUES)] for i in range(number)]
