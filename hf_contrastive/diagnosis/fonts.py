"""Glyphs for names that matplotlib's own font cannot write, such as Chinese ones, from fonts that are installed."""

from functools import cache
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
else:
    # Checks of types at run time would look for matplotlib, which need not be there.
    Figure = Any


def give_glyphs(figure: Figure) -> None:
    """Let each text of a figure fall back to installed fonts for characters that its own font lacks.

    Where none has a glyph, matplotlib draws a box and warns which character it stands for.
    """
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        missing = frozenset(map(ord, text.get_text())) - _characters(findfont(text.get_fontproperties()))
        if fallbacks := _families_for(missing):
            text.set_fontfamily([*text.get_fontfamily(), *fallbacks])
            # Bold fonts have fewer glyphs.
            text.set_fontweight("normal")


@cache
def _families_for(missing: frozenset[int]) -> tuple[str, ...]:
    """Installed families, as few as can be, that have glyphs for as many of the missing characters as can be."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    regular = [font.name for font in fontManager.ttflist if (font.style, font.weight) == ("normal", 400)]
    # The font of the last resort has boxes alone.
    names = sorted({name for name in regular if not name.startswith("Last Resort")})
    families: list[str] = []
    while missing:
        found = {name: missing & _characters(findfont(FontProperties(family=[name]))) for name in names}
        best = max(found, key=lambda name: len(found[name]))
        if not found[best]:
            break
        families.append(best)
        missing -= found[best]
    return tuple(families)


@cache
def _characters(path: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    # Line breaks need no glyph.
    return frozenset(get_font(path).get_charmap()) | {ord("\n")}
