"""The diagnosis as one page of HTML that needs nothing else, and its plots as files."""

import math
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from hf_contrastive import __version__
from hf_contrastive.diagnosis.curves import Side, sides_of
from hf_contrastive.diagnosis.drawing import has_matplotlib
from hf_contrastive.diagnosis.findings import pair_facts
from hf_contrastive.diagnosis.overview import before_and_after, key_numbers, verdict
from hf_contrastive.diagnosis.plots import Plot, model_plots, pair_plots
from hf_contrastive.diagnosis.result import Diagnosis
from hf_contrastive.diagnosis.table import tables


TRIALS = "What can be done"
# Kinds of plots by heading.
SECTIONS = {
    "What parts the modalities": ("gap", "clouds", "composition", "cosines"),
    TRIALS: ("shift", "temperature", "potential"),
    "What a search sees": ("hubness", "occurrences"),
    "The shape of each modality": ("spectra", "norms", "coordinates"),
}
PACKAGES = ("torch", "transformers", "datasets")
NO_PLOTS = "No plots: they need matplotlib, `pip install hf-contrastive[recipes]`."


class PageFiles(NamedTuple):
    """What was written: the page, its plots as PNG in the page's order, and why others are missing."""

    page: Path
    pictures: list[Path]
    missing: list[str]


def write_page(diagnosis: Diagnosis, folder: str | Path, *, command: str | None = None) -> Path:
    """
    Write `index.html`, one file that shows a diagnosis with nothing from elsewhere, and its plots as PNG beside it.

    Without matplotlib there are no plots, as the page says.

    Args:
        diagnosis ([`Diagnosis`]):
            What to show, with what it is compared with.
        folder (`str` or `Path`):
            Where to write. It is made if it is not there.
        command (`str`, *optional*):
            Command line that makes the page again.

    Returns:
        `Path`: The page.
    """
    return write_page_files(diagnosis, folder, command=command).page


def write_page_files(diagnosis: Diagnosis, folder: str | Path, *, command: str | None = None) -> PageFiles:
    """[`write_page`], which tells all files that it wrote."""
    from jinja2 import Environment, StrictUndefined

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sides = sides_of(diagnosis)
    sections, missing = _sections(diagnosis, sides)
    pictures = [plot.write(folder) for plots in sections.values() for plot in plots]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    template = files("hf_contrastive").joinpath("templates/diagnosis.html").read_text(encoding="utf-8")
    html = environment.from_string(template).render(
        diagnosis=diagnosis,
        sides=sides,
        title=" and ".join(side.label for side in sides),
        about=diagnosis.about,
        verdict=verdict(sides),
        pairs=[_pair(sides, pair.first, pair.second) for pair in diagnosis.pairs],
        sections=sections,
        trials=TRIALS,
        missing=missing,
        tables=tables(diagnosis),
        measures={key: [one.metrics.get(key) for one in diagnosis.all] for key in diagnosis.metrics},
        provenance=_provenance(diagnosis),
        command=command,
    )
    page = folder / "index.html"
    page.write_text(html, encoding="utf-8")
    return PageFiles(page, pictures, missing)


def _sections(diagnosis: Diagnosis, sides: Sequence[Side]) -> tuple[dict[str, list[Plot]], list[str]]:
    """Plots by heading, and why others are missing."""
    if not has_matplotlib():
        return {heading: [] for heading in SECTIONS}, [NO_PLOTS]
    found, missing = model_plots(sides), []
    for pair in diagnosis.pairs:
        plots, without = pair_plots(sides, pair.first, pair.second)
        found += plots
        missing += without
    return {
        heading: [plot for name in names for plot in found if plot.kind == name] for heading, names in SECTIONS.items()
    }, missing


def _pair(sides: Sequence[Side], first: str, second: str) -> dict[str, Any]:
    found = sides[0].one.pair(first, second)
    error = pair_facts(sides[0].one.metrics, found, items=sides[0].one.items)["trial_error"] / math.sqrt(2)
    return {
        "first": first,
        "second": second,
        "numbers": key_numbers(sides, first, second),
        "interventions": {side.label: before_and_after(side, first, second) for side in sides},
        "fitted": found.trials.fitted_rows,
        "measured": found.trials.measured_rows,
        "error": f"{error:.3f}",
    }


def _code(text: str) -> Any:
    """Names between backticks as code, all else escaped."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(x) if i % 2 else escape(x) for i, x in enumerate(parts))


def _provenance(diagnosis: Diagnosis) -> dict[str, str]:
    return {
        **{
            f"model {place}" if diagnosis.compared else "model": one.name for place, one in enumerate(diagnosis.all, 1)
        },
        "data": diagnosis.dataset or "the embeddings as they were given",
        "rows": f"{diagnosis.rows}, which show {diagnosis.items} things; width {diagnosis.width}",
        "seed": str(diagnosis.seed),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": f"hf_contrastive {__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    }
