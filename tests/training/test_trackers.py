"""What trackers receive: the same names from training and evaluation, whichever tracker it is."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from transformers import CLIPModel
from transformers.integrations import integration_utils

from hf_contrastive.metrics.measures import read_key
from tests.training.test_trainer import make_trainer


LOGGED = (
    "geometry/uniformity_image",
    "geometry/uniformity_floor",
    "geometry/modality_gap_image_text",
    "geometry/modality_gap_floor_image_text",
    "geometry/effective_rank_text",
    "geometry/matched_cosine_mean_image_text",
    "retrieval/image_to_text_recall@1",
)
EXACT = (
    "geometry/separability_image_text",
    "geometry/energy_distance_image_text",
    "geometry/frechet_distance_image_text",
)


class FakeTracker(ModuleType):
    """As much of wandb and of trackio as the Trainer's callbacks use."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__version__ = "0.30"
        self.logged: dict[str, Any] = {}
        self.config = type("Config", (dict,), {"update": lambda self, *_, **__: None})()
        self.run = SimpleNamespace(summary={}, _label=lambda **_: None)
        self.context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))

    def init(self, **_: Any) -> None:
        pass

    def finish(self) -> None:
        pass

    def log(self, values: dict[str, Any]) -> None:
        self.logged |= values


def train_and_evaluate(clip: CLIPModel, dataset: Dataset, folder: Path, report_to: str) -> list[dict[str, Any]]:
    trainer = make_trainer(clip, dataset, folder, report_to=report_to, max_steps=1)
    trainer.train()
    trainer.evaluate()
    return trainer.state.log_history


def check(logged: dict[str, Any], history: list[dict[str, Any]]) -> None:
    train = next(entry for entry in history if "loss" in entry)
    evaluation = next(entry for entry in history if "eval_loss" in entry)
    for name in LOGGED:
        assert logged[f"train/{name}"] == pytest.approx(train[name], rel=1e-5, abs=1e-6)
    for name in LOGGED + EXACT:
        assert logged[f"eval/{name}"] == pytest.approx(evaluation[f"eval_{name}"], rel=1e-5, abs=1e-6)
    # Whatever training logs, evaluation measures under the same name.
    names = {name.removeprefix("train/") for name in logged if name.startswith(("train/geometry", "train/retrieval"))}
    assert names <= {name.removeprefix("eval/") for name in logged if name.startswith("eval/")}
    assert all(read_key(name) for name in LOGGED + EXACT if "geometry" in name and "floor" not in name)


def test_tensorboard(clip: CLIPModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(
        module, reason="TensorBoard's files are read with `tensorboard`."
    ).EventAccumulator
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    history = train_and_evaluate(clip, dataset, tmp_path, "tensorboard")
    logged: dict[str, float] = {}
    # One file of training, one of the evaluation after it.
    for file in (tmp_path / "events").iterdir():
        events = accumulator(str(file)).Reload()
        logged |= {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    check(logged, history)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    tracker = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, tracker)
    if name == "wandb":
        errors = SimpleNamespace(ConfigError=KeyError)
        monkeypatch.setitem(sys.modules, "wandb.sdk", ModuleType("wandb.sdk"))
        monkeypatch.setitem(sys.modules, "wandb.sdk.lib", ModuleType("wandb.sdk.lib"))
        monkeypatch.setitem(sys.modules, "wandb.sdk.lib.config_util", errors)
    monkeypatch.setattr(integration_utils, f"is_{name}_available", lambda: True)
    history = train_and_evaluate(clip, dataset, tmp_path, name)
    check(tracker.logged, history)
