"""Geometry in the logs of a plain Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, Trainer, TrainerCallback, TrainingArguments, set_seed

from hf_contrastive import geometry_report, log_geometry, retrieval_report
from hf_contrastive.testing import run_distributed
from tests.conftest import LAYERS, TEXT, make_dataset, make_inputs, tiny_clip


class Listener(TrainerCallback):
    """A tracker: it reports what is in the logs by its turn."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        self.seen.append(dict(logs))


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Any]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]} | {"return_loss": True}


def make_trainer(folder: Path | str, **options: Any) -> Trainer:
    set_seed(0)
    defaults = {"max_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 0.0}
    defaults |= {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    args = TrainingArguments(str(folder), dataloader_pin_memory=False, **(defaults | options))
    return Trainer(tiny_clip(), args, train_dataset=list(make_dataset()), data_collator=collate)


def test_logs_and_trackers_of_a_plain_trainer_have_the_geometry_of_its_batch(tmp_path: Path):
    trainer, listener = make_trainer(tmp_path, per_device_train_batch_size=16, max_steps=1), Listener()
    trainer.add_callback(listener)
    log_geometry(trainer)
    trainer.train()
    with torch.no_grad():
        output = trainer.model.eval()(**make_inputs(16))
    embeds = {"image": output.image_embeds, "text": output.text_embeds}
    expected = geometry_report(embeds) | retrieval_report(embeds, ks=(1,), median=False)
    for log in (trainer.state.log_history[0], listener.seen[0]):
        found = {name: value for name, value in log.items() if "/" in name}
        # One batch holds all rows, in another order.
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert not [name for name in trainer.state.log_history[-1] if "/" in name], "The summary of training has no batch."


def test_the_model_is_left_as_it_was(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    callback = log_geometry(trainer)
    trainer.train()
    assert not trainer.model._forward_hooks
    assert not callback._latest
    trainer.remove_callback(callback)
    assert callback not in trainer.callback_handler.callbacks


def test_only_the_modalities_that_are_asked_for(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    log_geometry(trainer, modalities=["text"])
    trainer.train()
    log = trainer.state.log_history[0]
    assert "geometry/uniformity_text" in log
    assert not [name for name in log if "image" in name or name.startswith("retrieval")]


def test_embeddings_that_are_not_finite_do_not_end_training(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    log_geometry(trainer)
    broken = iter([True, False])

    def overflow(model: Any, inputs: Any, output: Any) -> None:
        if next(broken):
            output["text_embeds"] = output["text_embeds"].index_fill(0, torch.tensor([3]), torch.inf)

    trainer.model.register_forward_hook(overflow)
    with pytest.warns(
        UserWarning, match=r"Step 1 has no geometry in its logs. `embeds\['text'\]` .* row 3 is the first"
    ):
        trainer.train()
    first, second = trainer.state.log_history[:2]
    assert "geometry/uniformity_text" not in first
    assert "geometry/uniformity_text" in second


@pytest.mark.parametrize(
    ("modalities", "message"), [(["sound"], r"for \['sound'\], but CLIPModel returned"), ([], "any")]
)
def test_embeddings_that_are_not_there_are_named(tmp_path: Path, modalities: list[str], message: str):
    trainer = make_trainer(tmp_path)
    log_geometry(trainer, modalities=modalities)
    with pytest.raises(ValueError, match=message):
        trainer.train()


def test_a_model_without_embeddings_is_refused(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    callback = log_geometry(trainer)
    bert = BertModel(BertConfig(**LAYERS, **TEXT))
    callback.on_train_begin(None, None, None, model=bert)
    with pytest.raises(ValueError, match=r"for any modality, but BertModel returned \['last_hidden_state'"):
        bert(input_ids=torch.ones(2, 4, dtype=torch.long))


def check_world_logs(folder: str, expected: dict[str, float]) -> None:
    trainer = make_trainer(folder, max_steps=1, ddp_backend="gloo")
    log_geometry(trainer)
    trainer.train()
    found = {name: value for name, value in trainer.state.log_history[0].items() if "/" in name}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_several_processes_measure_the_batch_of_all(tmp_path: Path):
    whole = make_trainer(tmp_path / "whole", per_device_train_batch_size=16, max_steps=1)
    log_geometry(whole)
    whole.train()
    expected = {name: value for name, value in whole.state.log_history[0].items() if "/" in name}
    run_distributed(check_world_logs, str(tmp_path), expected)
