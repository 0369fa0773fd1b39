"""What a picture has room for: words beside the axes are inside of it, whatever the values."""

from dataclasses import replace

import pytest
import torch

from hf_contrastive.diagnosis import Diagnosis
from hf_contrastive.diagnosis.curves import sides_of
from hf_contrastive.diagnosis.drawing import STYLE, _figure
from hf_contrastive.diagnosis.plots_clouds import draw_potential
from hf_contrastive.diagnosis.plots_shape import draw_spectra


matplotlib = pytest.importorskip("matplotlib")


@pytest.mark.parametrize("name", ["spectra", "potential"])
def test_words_beside_the_axes_are_in_the_picture(diagnosis: Diagnosis, name: str):
    side = sides_of(diagnosis)[0]
    # Values within a decade, and values next to nothing, have the longest numbers at their ticks.
    shape = side.shapes["image"]
    flat = replace(shape, spectrum=torch.linspace(0.0026, 0.0014, 8), isotropic=torch.linspace(0.0026, 0.0014, 8))
    axis = side.axes["image", "text"]
    low = replace(axis, potentials={m: x / x.max() * 0.0028 for m, x in axis.potentials.items()})
    side = replace(side, shapes=dict.fromkeys(side.shapes, flat), axes={("image", "text"): low})
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(1)
        if name == "spectra":
            draw_spectra([axes], [side])
        else:
            draw_potential([axes], [side], "image", "text")
        figure.canvas.draw()
        words = axes.yaxis.get_tightbbox(figure.canvas.get_renderer())
    assert words.width > 20
    assert words.x0 >= 0
