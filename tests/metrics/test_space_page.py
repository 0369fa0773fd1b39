"""The page of a Space: files and options in, values out."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest

from hf_contrastive.functional import alignment
from hf_contrastive.metrics import load_metric, space


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    for name, rows in zip(names, np.random.default_rng(0).normal(size=(2, 6, 3)), strict=True):
        np.save(name, rows)
    return names


def test_files_and_options_become_values(files: list[str]):
    import torch

    x, y = (torch.from_numpy(np.load(name)) for name in files)
    found = space.measure_files(load_metric("alignment"), files, json.dumps({"alpha": 1.0}))
    assert found["alignment"] == pytest.approx(alignment(x, y, alpha=1.0).item())
    assert space.measure_files(load_metric("alignment"), files, "")["alignment"] == pytest.approx(
        alignment(x, y).item()
    )


def test_what_is_lacking_is_named(files: list[str]):
    module = load_metric("alignment")
    with pytest.raises(ValueError, match=r"Give a \.npy file of references"):
        space.measure_files(module, [files[0], None], "")
    with pytest.raises(ValueError, match="Options must be a JSON object"):
        space.measure_files(module, files, "[1]")


# An event loop that gradio leaves open when it is imported.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_the_page_has_a_field_for_each_input(files: list[str]):
    pytest.importorskip("gradio", reason="needs gradio")
    page = space.build(load_metric("alignment"))
    assert [component.label for component in page.input_components] == [
        "predictions (.npy)",
        "references (.npy)",
        "Options, as JSON",
    ]
    assert page.fn(*files, "") == space.measure_files(load_metric("alignment"), files, "")
    gc.collect()
