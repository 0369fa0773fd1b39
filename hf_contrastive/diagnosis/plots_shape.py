"""Plots of how each modality is spread: spectra, lengths and coordinates."""

from collections.abc import Sequence

from hf_contrastive.diagnosis.curves import Side
from hf_contrastive.diagnosis.drawing import HUES, INK, Axes, grid, legend, share_limits, shown


# Below, shares of variance are nothing but rounding.
LEAST_SHARE = 1e-7


def draw_spectra(panels: Sequence[Axes], sides: Sequence[Side]) -> None:
    """Share of variance by direction beside that of a round cloud."""
    for axes, side in zip(panels, sides, strict=True):
        for i, (m, shape) in enumerate(side.shapes.items()):
            shares = shape.spectrum.clamp(min=LEAST_SHARE).numpy()
            rank = side.one.metrics[f"geometry/effective_rank_{m}"]
            axes.plot(
                range(1, len(shares) + 1), shares, _dashes(i), color=_hue(i), label=f"{shown(m)}, rank {rank:.1f}"
            )
        isotropic = next(iter(side.shapes.values())).isotropic.clamp(min=LEAST_SHARE).numpy()
        axes.plot(range(1, len(isotropic) + 1), isotropic, "--", color=INK, linewidth=0.9, label="round cloud")
        axes.set_yscale("log")
        # A power of ten is in view, and no labels between powers, which are too wide for the margin.
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, high / 12), high)
        axes.tick_params(axis="y", which="minor", labelleft=False)
        axes.set_xlabel("direction")
        axes.set_ylabel("share of variance")
        grid(axes)
        legend(axes)
    share_limits(panels)


def draw_norms(panels: Sequence[Axes], sides: Sequence[Side]) -> None:
    """Lengths against a Gaussian's."""
    for axes, side in zip(panels, sides, strict=True):
        for i, (m, shape) in enumerate(side.shapes.items()):
            axes.plot(
                shape.norms.gaussian.numpy(),
                shape.norms.observed.numpy(),
                _markers(i),
                color=_hue(i),
                markersize=3,
                label=shown(m),
            )
        _diagonal(axes)
        axes.set_xlabel("Gaussian, length over root mean square")
        axes.set_ylabel("rows")
    _finish(panels)


def draw_coordinates(panels: Sequence[Axes], sides: Sequence[Side]) -> None:
    """Coordinates against a Gaussian's."""
    for axes, side in zip(panels, sides, strict=True):
        for i, (m, shape) in enumerate(side.shapes.items()):
            gaussian, observed, low, high = (z.double().numpy() for z in shape.coordinates)
            axes.plot(gaussian, observed, _dashes(i), color=_hue(i), label=shown(m))
            axes.fill_between(gaussian, low, high, color=_hue(i), alpha=0.18, linewidth=0)
        _diagonal(axes)
        axes.set_xlabel("Gaussian")
        axes.set_ylabel("coordinates, standardized")
    _finish(panels)


def _diagonal(axes: Axes) -> None:
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], "--", color=INK, linewidth=0.9, label="Gaussian")


def _finish(panels: Sequence[Axes]) -> None:
    for axes in panels:
        grid(axes, "both")
        legend(axes)
    share_limits(panels)


def _hue(place: int) -> str:
    return HUES[place % len(HUES)]


def _dashes(place: int) -> str:
    return ("-", "-.", ":")[place % 3]


def _markers(place: int) -> str:
    return ("o", "^", "s")[place % 3]
