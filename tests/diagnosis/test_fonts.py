"""Glyphs for names in any script."""

import warnings

import pytest

from hf_contrastive.diagnosis.drawing import _figure, draw_png
from hf_contrastive.diagnosis.fonts import give_glyphs


matplotlib = pytest.importorskip("matplotlib")

# In the fonts that come with matplotlib, but not in the one that it writes with: a letter of phonetics.
ONLY_ELSEWHERE = "\u1d8e"


def test_characters_that_the_font_lacks_are_written_in_another_one(tmp_path):
    with warnings.catch_warnings():
        # Matplotlib warns of each glyph that is missing.
        warnings.simplefilter("error")
        draw_png(lambda panels: panels[0].set_xlabel(ONLY_ELSEWHERE), [f"model {ONLY_ELSEWHERE}"], tmp_path / "a.png")


def test_without_it_they_are_missing(tmp_path):
    figure, (axes,) = _figure(1)
    axes.set_xlabel(ONLY_ELSEWHERE)
    with pytest.warns(UserWarning, match="missing from font"):
        figure.savefig(tmp_path / "a.png")


def test_other_words_keep_their_font():
    figure, (axes,) = _figure(1)
    axes.set_xlabel("text\nimage")
    before = axes.xaxis.label.get_fontfamily()
    # No font has a glyph for a private character of the last plane.
    axes.set_ylabel("\U0010fffd")
    give_glyphs(figure)
    assert axes.xaxis.label.get_fontfamily() == axes.yaxis.label.get_fontfamily() == before
