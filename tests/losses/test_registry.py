import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_contrastive.losses import (
    CLIP,
    ContrastiveLoss,
    InfoNCE,
    LossInfo,
    get_loss,
    list_losses,
    register_loss,
    total,
)
from hf_contrastive.losses import registry as registry_module
from hf_contrastive.losses.registry import read_loss


@pytest.fixture
def spare_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, LossInfo]]:
    list_losses()  # plugins go to the real registry
    losses = dict(registry_module._LOSSES)
    monkeypatch.setattr(registry_module, "_LOSSES", losses)
    return losses


def test_ours_are_registered_in_order():
    names = [info.name for info in list_losses()]
    assert names == sorted(names)
    assert {"align_uniform", "clip", "clip_divergence", "info_nce", "siglip", "uni_align"} <= set(names)


def test_a_loss_is_built_with_its_options():
    assert get_loss("info_nce", anchor="image", symmetric=False) == InfoNCE(anchor="image", symmetric=False)
    assert get_loss("clip") == CLIP()


def test_an_unknown_name_is_answered_with_the_known_ones():
    message = r"^There is no loss called 'infonce'\. Known losses: align_uniform, .*clip, .*info_nce, .*uni_align"
    with pytest.raises(ValueError, match=message):
        get_loss("infonce")


def test_an_unknown_option_is_answered_with_the_known_ones():
    message = (
        r"^The loss 'info_nce' has no option nchor, temperature\. Its options: anchor, symmetric, .*keep_bytes\.$"
    )
    with pytest.raises(ValueError, match=message):
        get_loss("info_nce", temperature=0.1, nchor="image", symmetric=True)


def test_a_wrong_value_gets_the_losss_own_message():
    with pytest.raises(ValueError, match="but got 2"):
        get_loss("clip_divergence", weight=2.0)


def test_an_info_names_paper_summary_and_options():
    info = next(info for info in list_losses() if info.name == "clip_divergence")
    assert (info.cls.__name__, info.paper, info.options) == ("CLIPDivergence", "2601.19597", ["weight", "keep_bytes"])
    assert info.summary.startswith("CLIP plus a weight times the divergence")


def test_a_dataclass_becomes_a_loss(spare_registry: dict[str, LossInfo]):
    @register_loss("constant", paper="0000.00000")
    @dataclass(frozen=True)
    class Constant:
        """Nothing to learn."""

        value: float = 1.0

        def __call__(self, batch: object) -> dict[str, object]:
            return {}

    assert get_loss("constant", value=2.0) == Constant(2.0)
    assert isinstance(get_loss("constant"), ContrastiveLoss)
    assert spare_registry["constant"] == LossInfo("constant", Constant, "0000.00000")


def test_a_loss_may_have_no_paper(spare_registry: dict[str, LossInfo]):
    @register_loss("homemade")
    @dataclass(frozen=True)
    class Homemade:
        """Ours."""

    assert spare_registry["homemade"].paper is None


def test_a_taken_name_is_refused(spare_registry: dict[str, LossInfo]):
    with pytest.raises(ValueError, match=r"^The loss name 'info_nce' is taken by InfoNCE\. Choose another\.$"):
        register_loss("info_nce", paper="0000.00000")(CLIP)
    assert spare_registry["info_nce"].cls is InfoNCE


def test_a_class_without_fields_is_refused(spare_registry: dict[str, LossInfo]):
    class Plain:
        pass

    with pytest.raises(TypeError, match=r"A loss is a dataclass, .*Plain is not\.$"):
        register_loss("plain", paper="0000.00000")(Plain)
    assert "plain" not in spare_registry


PLUGIN = '''
from dataclasses import dataclass
from hf_contrastive.losses import register_loss

@register_loss("zero", paper="0000.00000")
@dataclass(frozen=True)
class Zero:
    """Nothing at all."""

    def __call__(self, batch):
        return {"zero": batch.logit_scale * 0}
'''


def install(folder: Path, module: str, source: str) -> None:
    """Lay out a distribution as pip would, with one entry point that names `module`."""
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry_module.ENTRY_POINT_GROUP}]\nmine = {module}\n")
    (folder / f"{module}.py").write_text(source)


def run_with(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    root = Path(registry_module.__file__).parents[2]
    path = os.pathsep.join([str(folder), str(root)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_losses_of_an_installed_plugin_are_found(tmp_path: Path):
    install(tmp_path, "plugin_of_zero", PLUGIN)
    code = "from hf_contrastive.losses import get_loss, list_losses; print(get_loss('zero'))"
    code += "; print(*[info.name for info in list_losses()])"
    done = run_with(tmp_path, code)
    assert done.returncode == 0, done.stderr
    built, *names = done.stdout.split()
    assert built == "Zero()"
    assert names == sorted(names)
    assert {"zero", "clip", "uni_align"} <= set(names)


def test_a_plugin_that_fails_to_load_is_named_with_its_error(tmp_path: Path):
    install(tmp_path, "broken_plugin", "import a_module_that_nobody_has\n")
    done = run_with(tmp_path, "from hf_contrastive.losses import list_losses; list_losses()")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: The loss plugin 'mine' (broken_plugin) failed to load: ModuleNotFoundError")
    assert "a_module_that_nobody_has" in last


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        ({}, ValueError, "A loss must return a term or more"),
        ({"clip": torch.ones(()), "extra": 0.5}, TypeError, "'extra' is the float 0.5.*zero with a graph"),
        ({"clip": torch.ones(4)}, ValueError, r"'clip' has shape \[4\]"),
    ],
)
def test_what_is_no_term_is_refused(terms: dict[str, Any], error: type[Exception], message: str):
    # As users run it: without the types that tests check.
    with pytest.raises(error, match=message):
        inspect.unwrap(total)(terms)


def test_the_total_is_the_sum_of_the_terms():
    assert total({"clip": torch.tensor(2.0), "divergence": torch.tensor(-0.5)}).item() == 1.5


def test_a_loss_inside_another_may_leave_its_options_empty():
    # What YAML has for `options:` with nothing behind it.
    assert read_loss({"name": "clip", "options": None}, "loss") == CLIP()
    with pytest.raises(ValueError, match="`options` of the loss 'clip' must be a mapping, but got 3"):
        read_loss({"name": "clip", "options": 3}, "loss")
