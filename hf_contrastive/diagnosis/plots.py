"""All plots of a page, each with its words."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hf_contrastive.diagnosis import (
    plots_clouds,
    plots_retrieval,
    plots_shape,
    reading,
    reading_pairs,
    reading_retrieval,
)
from hf_contrastive.diagnosis.curves import Side
from hf_contrastive.diagnosis.drawing import Draw, draw_png, draw_svgs
from hf_contrastive.diagnosis.reading import Reading
from hf_contrastive.diagnosis.reading_facts import model_facts, plot_facts


class Picture(NamedTuple):
    """One model in a plot: its name, the drawing, what it shows in words, what to try."""

    label: str
    svg: str
    alt: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot and its words.

    Args:
        kind: Name of its reading.
        name: Name in the page and of its file.
        title: Its heading.
        how: How to read it.
        alts: What it shows, by model.
        advice: What to try, by model.
        draw: Draws it.
    """

    kind: str
    name: str
    title: str
    how: str
    alts: dict[str, str]
    advice: dict[str, str]
    draw: Draw

    def pictures(self) -> list[Picture]:
        """The plot for a page."""
        drawn = draw_svgs(self.draw, len(self.alts), self.name)
        return [
            Picture(label, svg, alt, self.advice[label])
            for svg, (label, alt) in zip(drawn, self.alts.items(), strict=True)
        ]

    def write(self, folder: Path) -> Path:
        """The plot as a file."""
        path = folder / f"{self.name}.png"
        draw_png(self.draw, list(self.alts), path)
        return path


# Which plots there are, by section of the page.
MODEL_PLOTS: tuple[tuple[Reading, Callable[..., None]], ...] = (
    (reading.CLOUDS, plots_clouds.draw_clouds),
    (reading.SPECTRA, plots_shape.draw_spectra),
    (reading.NORMS, plots_shape.draw_norms),
    (reading.COORDINATES, plots_shape.draw_coordinates),
)
PAIR_PLOTS: tuple[tuple[Reading, Callable[..., None]], ...] = (
    (reading_pairs.COMPOSITION, plots_clouds.draw_composition),
    (reading_pairs.GAP, plots_clouds.draw_gap),
    (reading_pairs.COSINES, plots_clouds.draw_cosines),
    (reading_retrieval.HUBNESS, plots_retrieval.draw_hubness),
    (reading_retrieval.OCCURRENCES, plots_retrieval.draw_occurrences),
    (reading_retrieval.SHIFT, plots_retrieval.draw_shift),
    (reading_retrieval.TEMPERATURE, plots_retrieval.draw_temperature),
    (reading_pairs.POTENTIAL, plots_clouds.draw_potential),
)


def model_plots(sides: Sequence[Side]) -> list[Plot]:
    """Plots that show all modalities."""
    facts = [model_facts(side) for side in sides]
    return [_plot(words, draw, sides, facts, (), words.name) for words, draw in MODEL_PLOTS]


def pair_plots(sides: Sequence[Side], first: str, second: str) -> tuple[list[Plot], list[str]]:
    """Plots of two modalities, and why others were left out: with few rows, or centers on one line."""
    facts = [plot_facts(side, first, second) for side in sides]
    plots, missing = [], []
    # Names of modalities are those of files and keys, and may hold anything.
    suffix = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{first}_{second}")
    if suffix != f"{first}_{second}":
        suffix += f"_{[(p.first, p.second) for p in sides[0].one.pairs].index((first, second))}"
    for words, draw in PAIR_PLOTS:
        able = [place for place, side in enumerate(sides) if _can(words.name, side, first, second)]
        if len(able) < len(sides):
            without = ", ".join(side.label for place, side in enumerate(sides) if place not in able)
            missing.append(f"Not drawn of {without}, {first} and {second}: {words.title}, for {REASONS[words.name]}")
        if able:
            name = f"{words.name}_{suffix}"
            chosen, known = [sides[place] for place in able], [facts[place] for place in able]
            plots.append(_plot(words, draw, chosen, known, (first, second), name))
    return plots, missing


REASONS = {
    "hubness": "there are fewer than 10 rows to search with.",
    "occurrences": "there are fewer than 10 rows to search with.",
    "potential": "the centers lie on one line through the origin, so that no one circle joins them.",
}


def _can(name: str, side: Side, first: str, second: str) -> bool:
    if name in ("hubness", "occurrences"):
        return (first, second) in side.searches and (second, first) in side.searches
    return name != "potential" or (first, second) in side.axes


def _plot(
    words: Reading,
    draw: Callable[..., None],
    sides: Sequence[Side],
    facts: Sequence[dict[str, Any]],
    names: tuple[str, ...],
    name: str,
) -> Plot:
    return Plot(
        kind=words.name,
        name=name,
        title=words.title + (f", {' and '.join(names)}" if len(sides[0].one.pairs) > 1 and names else ""),
        how=words.how.format(**facts[0]),
        alts={side.label: words.alt.format(**known) for side, known in zip(sides, facts, strict=True)},
        advice={side.label: words.advice(known) for side, known in zip(sides, facts, strict=True)},
        draw=lambda panels: draw(panels, sides, *names),
    )
