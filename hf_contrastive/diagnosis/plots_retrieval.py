"""Plots of retrieval: what it loses to hubs, what interventions make of it, what temperature does to the loss."""

import math
from collections.abc import Mapping, Sequence

import torch

from hf_contrastive.diagnosis.curves import Side
from hf_contrastive.diagnosis.drawing import GREY, HUES, INK, Axes, Notes, grid, legend, share_limits, shown
from hf_contrastive.diagnosis.findings import mean_recall, pair_facts
from hf_contrastive.diagnosis.result import Trials


MARKERS = {"none": "o", "mean_shift": "s", "whitening": "D", "linear_head": "^"}


def draw_hubness(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """Recall by how often matches are found."""
    for axes, side in zip(panels, sides, strict=True):
        for color, marker, names in zip(HUES, ("o-", "^--"), ((first, second), (second, first)), strict=False):
            search = side.searches[names]
            label = f"{shown(names[0])} to {shown(names[1])}"
            axes.plot(
                search.bins.occurrences.numpy(),
                search.bins.recall.numpy(),
                marker,
                color=color,
                markersize=4,
                label=label,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"queries with the match among their {search.k} nearest")
        axes.set_ylabel("R@1")
        grid(axes)
        legend(axes)
    share_limits(panels)


def draw_occurrences(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """Share of rows by how many queries find them, beside chance."""
    for axes, side in zip(panels, sides, strict=True):
        for color, fill, names in zip(HUES, (True, False), ((first, second), (second, first)), strict=False):
            search = side.searches[names]
            top = int(search.occurrences.max()) + 1
            counts = torch.histc(search.occurrences.float(), bins=top + 1, min=-0.5, max=top + 0.5)
            edges = [i - 0.5 for i in range(top + 2)]
            axes.stairs(
                (counts / counts.sum()).tolist(),
                edges,
                fill=fill,
                color=color,
                alpha=0.55 if fill else 1.0,
                label=f"{shown(search.key)}",
            )
        queries = round(float(search.occurrences.sum()) / search.k)
        chance = torch.distributions.Binomial(queries, torch.tensor(search.k / len(search.occurrences)))
        found = torch.arange(min(queries, top) + 1)
        shares = chance.log_prob(found.float()).exp()  # type: ignore[no-untyped-call]
        axes.plot(found.tolist(), shares.tolist(), "--", color=INK, linewidth=0.9, label="chance")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"queries with the row among their {search.k} nearest")
        axes.set_ylabel("share of rows")
        legend(axes)
    share_limits(panels)


def draw_shift(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """R@1 against the gap, along the shift and after other interventions."""
    for axes, side in zip(panels, sides, strict=True):
        trials = side.one.pair(first, second).trials
        curve = {
            fraction: _place(metrics, first, second)
            for fraction, metrics in sorted(trials.shift_curve.items())
            if metrics
        }
        together = [point for fraction, point in curve.items() if fraction <= 0.5]
        past = [point for fraction, point in curve.items() if fraction >= 0.5]
        for points, dashes, label in ((together, "-", "along the gap"), (past, ":", "past each other")):
            if points:
                axes.plot(*zip(*points, strict=True), dashes, color=GREY, linewidth=1.2, label=label)
        _draw_interventions(axes, trials, first, second)
        facts = pair_facts(side.one.metrics, side.one.pair(first, second), items=side.one.items)
        axes.errorbar(
            *_place(trials.interventions[0].metrics, first, second),
            yerr=facts["trial_error"] / math.sqrt(2),
            color=INK,
            linewidth=0.8,
        )
        axes.set_xlim(left=0)
        axes.set_xlabel("gap between the centers")
        axes.set_ylabel("R@1, mean of both directions")
        grid(axes)
        legend(axes)
    share_limits(panels, "y")
    for axes, side in zip(panels, sides, strict=True):
        trials, notes = side.one.pair(first, second).trials, Notes(axes)
        for trial in trials.interventions:
            if trial.name == "linear_head":
                notes.add(f"{trial.settings['weight']:g}", _place(trial.metrics, first, second), HUES[1])
        for fraction in (-1.0, -0.5, 1.0):
            if trials.shift_curve.get(fraction):
                notes.add(f"{fraction:g}", _place(trials.shift_curve[fraction], first, second), INK)


def _draw_interventions(axes: Axes, trials: Trials, first: str, second: str) -> None:
    """A point for each intervention that could be done, with one entry in the legend for all heads."""
    colors = {"none": INK, "mean_shift": HUES[0], "whitening": HUES[2], "linear_head": HUES[1]}
    named = set()
    for trial in trials.interventions:
        if not trial.metrics:
            continue
        label = {"linear_head": "head, by weight", "none": "as it is"}.get(trial.name, trial.label)
        axes.plot(
            *_place(trial.metrics, first, second),
            MARKERS[trial.name],
            color=colors[trial.name],
            markersize=5,
            label=None if label in named else label,
        )
        named.add(label)


def _place(metrics: Mapping[str, float], first: str, second: str) -> tuple[float, float]:
    return metrics[f"geometry/modality_gap_{first}_{second}"], mean_recall(metrics, first, second)


def draw_temperature(panels: Sequence[Axes], sides: Sequence[Side], first: str, second: str) -> None:
    """Loss by temperature."""
    for axes, side in zip(panels, sides, strict=True):
        t = side.one.pair(first, second).trials.temperatures
        axes.plot(t.temperatures, t.loss, "-", color=HUES[0], label="loss")
        axes.axhline(t.chance, color=INK, linewidth=0.9, linestyle=":", label="chance")
        axes.plot(t.best, t.loss_at_best, "o", color=HUES[1], markersize=5, label=f"best, {t.best:.3f}")
        if t.own is not None and t.loss_at_own is not None:
            axes.plot(
                t.own,
                t.loss_at_own,
                "o",
                markersize=9,
                markerfacecolor="none",
                markeredgecolor=INK,
                label=f"own, {t.own:.3f}",
            )
        axes.set_xscale("log")
        axes.set_ylim(0, max(1.4 * t.chance, 1.1 * t.loss_at_best))
        axes.set_xlabel("temperature")
        axes.set_ylabel("contrastive loss")
        grid(axes)
        legend(axes, columns=4)
    share_limits(panels)
