"""Evaluation before training changes nothing of it, on several processes either."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import CLIPModel

from hf_contrastive.distributed import world_size
from tests.training.parity import Setting, largest_difference, make_parity_trainer, weights_by_processes
from tests.training.test_trainer import make_trainer


PLAIN = Setting("clip", "sgd")
STEPS = 5


def train(setting: Setting, folder: str) -> dict[str, Tensor]:
    trainer = make_parity_trainer(setting, folder, max_steps=STEPS)
    trainer.train()
    return trainer.model.state_dict()


def train_after_two_evaluations(setting: Setting, folder: str) -> dict[str, Tensor]:
    trainer = make_parity_trainer(setting, folder, max_steps=STEPS)
    first = trainer.evaluate()
    assert trainer.evaluate()["eval_loss"] == first["eval_loss"]
    trainer.train()
    assert isinstance(trainer.model_wrapped, DistributedDataParallel) == (world_size() > 1)
    return trainer.model.state_dict()


def test_evaluation_in_half_precision_leaves_the_weights_as_they_were(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    before = {name: x.clone() for name, x in clip.state_dict().items()}
    trainer = make_trainer(clip, dataset, tmp_path, bf16_full_eval=True, ema_decay=0.5, evaluate_ema=True)
    whole = make_trainer(clip, dataset, tmp_path).evaluate()["eval_loss"]
    assert 0 < abs(trainer.evaluate()["eval_loss"] - whole) < 0.05
    assert all(torch.equal(x, before[name]) for name, x in clip.state_dict().items())
    trainer.train()
    after = {name: x.clone() for name, x in clip.state_dict().items()}
    trainer.predict(dataset)
    assert {x.dtype for x in after.values()} <= {torch.float32, torch.int64}
    assert all(torch.equal(x, after[name]) for name, x in clip.state_dict().items())


@pytest.mark.distributed
@pytest.mark.slow
def test_training_after_evaluation_is_that_of_one_process(tmp_path: Path):
    one = weights_by_processes(1, [PLAIN], tmp_path, train)[PLAIN.key]
    two = weights_by_processes(2, [PLAIN], tmp_path, train_after_two_evaluations)[PLAIN.key]
    # Absolute, on weights in double precision. Without DDP it is about 1e-2.
    assert largest_difference(two, one) <= 1e-11
    again = weights_by_processes(1, [PLAIN], tmp_path, train_after_two_evaluations)[PLAIN.key]
    assert all(torch.equal(again[name], x) for name, x in one.items())
