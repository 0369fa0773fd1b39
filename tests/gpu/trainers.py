"""Small trainings on a device."""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel, set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from tests.conftest import make_dataset, tiny_clip


def dropout_clip(dropout: float = 0.1) -> CLIPModel:
    """A tiny CLIP whose steps draw random numbers on the device."""
    set_seed(0)
    return tiny_clip(dropout)


def make(model: Any, folder: Path, device: torch.device, rows: int = 64, **kwargs: Any) -> ContrastiveTrainer:
    options: dict[str, Any] = {"per_device_train_batch_size": 8, "max_steps": 4, "logging_steps": 1, "loss": "clip"}
    options |= {"learning_rate": 1e-3, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    options |= {"negatives_audit": False}
    given = {name: kwargs.pop(name) for name in ("peft_config",) if name in kwargs}
    own_loss = kwargs.pop("loss_object", None)
    args = ContrastiveTrainingArguments(str(folder), use_cpu=device.type == "cpu", **(options | kwargs))
    data = make_dataset(rows)
    trainer = ContrastiveTrainer(model, args, loss=own_loss, train_dataset=data, eval_dataset=data, **given)
    assert trainer.args.device.type == device.type
    if (scaler := trainer.accelerator.scaler) is not None:
        # From 65,536 the first steps of so small a model overflow, and no run would be like that of the CPU.
        scaler._init_scale = 256.0
    return trainer


def losses(trainer: ContrastiveTrainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def weights(trainer: ContrastiveTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in trainer.model.state_dict().items()}
