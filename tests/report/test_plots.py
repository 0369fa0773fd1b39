"""The picture of the geometry."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from hf_contrastive.report import plot_geometry
from tests.report.runs import make_embeds


def inked(path: Path) -> float:
    """Share of pixels that are not white."""
    with Image.open(path) as image:
        histogram = image.convert("L").histogram()
    return 1 - sum(histogram[250:]) / sum(histogram)


@pytest.mark.parametrize("num_runs", [1, 2])
def test_draws_a_row_of_panels_for_each_run(num_runs: int, tmp_path: Path):
    plot_geometry({f"run {seed}": make_embeds(seed) for seed in range(num_runs)}, tmp_path / "geometry.png")
    with Image.open(tmp_path / "geometry.png") as image:
        assert image.format == "PNG"
        assert image.size == (1430, num_runs * 429)
    assert 20_000 < (tmp_path / "geometry.png").stat().st_size < 1_000_000
    assert 0.02 < inked(tmp_path / "geometry.png") < 0.6


def test_draws_half_precision_and_rows_that_record_gradients(tmp_path: Path):
    embeds = {m: x.half().requires_grad_() for m, x in make_embeds().items()}
    plot_geometry({"half": embeds}, str(tmp_path / "geometry.png"))
    assert inked(tmp_path / "geometry.png") > 0.02


@pytest.mark.parametrize(
    "embeds",
    [
        make_embeds(rows=2),
        make_embeds(rows=5),
        {"image": torch.ones(20, 8), "text": make_embeds()["text"][:20]},
        {"image": torch.eye(20, 8) + 1, "text": torch.eye(20, 8) + 1},
    ],
    ids=["two rows", "fewer rows than columns", "a collapsed cloud", "equal clouds"],
)
def test_draws_unusual_clouds(embeds: dict[str, Tensor], tmp_path: Path):
    plot_geometry({"unusual": embeds}, tmp_path / "geometry.png")
    assert inked(tmp_path / "geometry.png") > 0.02


@pytest.mark.parametrize("modalities", [("image", "text", "audio"), ("image",)])
def test_other_numbers_of_modalities_than_two_are_refused(modalities: tuple[str, ...], tmp_path: Path):
    with pytest.raises(ValueError, match=r"plot_geometry draws two modalities, but the run 'clip' has \['"):
        plot_geometry({"clip": make_embeds(modalities=modalities)}, tmp_path / "geometry.png")
    assert not list(tmp_path.iterdir())


def test_does_not_touch_pyplot(tmp_path: Path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    plot_geometry({"clip": make_embeds()}, tmp_path / "geometry.png")
    assert pyplot.get_fignums() == before
