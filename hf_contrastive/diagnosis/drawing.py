"""From axes to SVG that follows the page's colors, and to PNG."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_contrastive.diagnosis.fonts import give_glyphs
from hf_contrastive.report.plots import COLORS


if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure
else:
    # Checks of types at run time would look for matplotlib, which need not be there.
    Axes = Figure = Any


# One axes per model, to be filled with data of the page.
Draw: TypeAlias = Callable[[Sequence[Axes]], None]

# Okabe and Ito's hues, which color-blind readers tell apart, for up to six modalities.
HUES = (*COLORS, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Stands for the color of text, which SVG takes from the page.
INK = "#010203"
GREY = "#8A8A8A"
# Inches: of a picture, of the space above the axes, of a line of a legend, of a title above all.
SIZE = (4.4, 3.3)
MARGIN, LINE, TITLE = 0.3, 0.17, 0.25
# Characters that a line of a legend has room for.
LINE_LENGTH = 64
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hf_contrastive",
    "font.size": 9.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}


def has_matplotlib() -> bool:
    """Whether plots can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def draw_svgs(draw: Draw, number: int, prefix: str) -> list[str]:
    """A picture for each model, as SVG to stand in a page.

    Args:
        draw: Fills one axes per model.
        number: Models.
        prefix: What makes ids of this plot its own in the page.
    """
    from matplotlib import rc_context

    with rc_context(STYLE):
        figures = [_figure(1) for _ in range(number)]
        draw([axes[0] for _, axes in figures])
        return [_as_svg(figure, f"{prefix}-{place}-") for place, (figure, _) in enumerate(figures)]


def draw_png(draw: Draw, titles: Sequence[str], path: Path) -> None:
    """All models beside each other in one file."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure, axes = _figure(len(titles), above=TITLE)
        draw(axes)
        for one, title in zip(axes, titles, strict=True):
            place = one.get_position()
            figure.text(place.x0, 0.985, title, va="top", weight="bold", parse_math=False)
        give_glyphs(figure)
        figure.savefig(path, dpi=130)


def _figure(number: int, above: float = 0.0) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot: no window, no global state. Margins are fixed, for to find them takes as long as all
    # the drawing.
    figure = Figure(figsize=(SIZE[0] * number, SIZE[1] + above))
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, number, squeeze=False)
    figure.subplots_adjust(
        left=0.15 / number,
        right=1 - 0.03 / number,
        bottom=0.46 / (SIZE[1] + above),
        top=1 - (MARGIN + above) / (SIZE[1] + above),
        wspace=0.22,
    )
    return figure, list(axes[0])


def _as_svg(figure: Figure, prefix: str) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, dpi=150, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Many pictures in one page: each has ids of its own.
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}", svg).replace('href="#', f'href="#{prefix}').replace("xlink:href", "href")
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"font: ([0-9.]+px)[^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def shown(name: str) -> str:
    """A name for a legend, which leaves out labels that begin with an underscore."""
    name = name.lstrip("_") or "unnamed"
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"


def legend(axes: Axes, columns: int = 3, markers: float = 1.0) -> None:
    """The names above the axes, where they hide nothing."""
    handles, names = axes.get_legend_handles_labels()
    columns = min(columns, len(names))
    while (
        columns > 1
        and columns * (max(map(len, names)) + 6) > LINE_LENGTH
        and sum(map(len, names)) + 6 * columns > LINE_LENGTH
    ):
        columns -= 1
    box = axes.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1.2,
        handletextpad=0.5,
        markerscale=markers,
    )
    for text in box.get_texts():
        text.set_parse_math(False)
    lines = -(-len(names) // columns)
    figure: Any = axes.figure
    height = figure.get_size_inches()[1]
    top = 1 - (MARGIN + (TITLE if height > SIZE[1] else 0.0) + (lines - 1) * LINE) / height
    figure.subplots_adjust(top=min(top, figure.subplotpars.top))


def grid(axes: Axes, which: Any = "y") -> None:
    """Faint lines behind the data."""
    axes.grid(axis=which, color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


class Notes:
    """Small words beside points, of which those are left out that would lie on others."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.taken: list[tuple[float, float]] = []

    def add(self, text: str, point: tuple[float, float], color: str) -> None:
        """Write once the limits of the axes stand."""
        (left, right), (bottom, top) = self.axes.get_xlim(), self.axes.get_ylim()
        x, y = (point[0] - left) / (right - left), (point[1] - bottom) / (top - bottom)
        if any(abs(x - a) < 0.09 and abs(y - b) < 0.06 for a, b in self.taken):
            return
        self.taken.append((x, y))
        self.axes.annotate(text, point, color=color, fontsize=7.5, textcoords="offset points", xytext=(5, 3))


def share_limits(panels: Sequence[Axes], which: str = "xy") -> None:
    """Give panels the same axes, so that models compare at a glance."""
    for get, set_ in ((f"get_{axis}lim", f"set_{axis}lim") for axis in which):
        limits = [getattr(axes, get)() for axes in panels]
        for axes in panels:
            getattr(axes, set_)(min(low for low, _ in limits), max(high for _, high in limits))
