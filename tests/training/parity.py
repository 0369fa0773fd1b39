"""The same training on any number of processes, and how far its weights are from those of one process.

Data order: the dataset is read in its own order. Accelerate gives process r of W the batches r, r + W, r + 2 W, ... of
B / W rows each, so the rows of all processes, in rank order, are the next B rows: the batch of one process with B.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PrinterCallback, set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.distributed import world_size
from hf_contrastive.testing import run_distributed
from tests.conftest import make_inputs, tiny_clip, tiny_siglip


ROWS, BATCH, STEPS = 32, 8, 20
LOSSES = ("clip_divergence", "clip", "siglip")
OPTIMIZERS = {
    # Clipping bites at every step; the test asserts it.
    "sgd": {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.1},
    "adamw": {"optim": "adamw_torch", "learning_rate": 1e-3, "max_grad_norm": 0.1, "weight_decay": 0.1},
}


@dataclass(frozen=True)
class Setting:
    """One training to repeat."""

    loss: str
    optimizer: str
    dtype: torch.dtype = torch.float64

    @property
    def key(self) -> str:
        return f"{self.loss}, {self.optimizer}"


SETTINGS = [Setting(loss, optimizer) for loss in LOSSES for optimizer in OPTIMIZERS]


def rows(dtype: torch.dtype, count: int = ROWS) -> list[dict[str, Tensor]]:
    inputs = make_inputs(count)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    return [{name: x[row] for name, x in inputs.items()} for row in range(count)]


def make_model(setting: Setting) -> PreTrainedModel:
    set_seed(0)
    return (tiny_siglip if setting.loss == "siglip" else tiny_clip)().to(setting.dtype)


def make_parity_trainer(
    setting: Setting,
    folder: str,
    trainer: type[ContrastiveTrainer] = ContrastiveTrainer,
    start: Callable[[], PreTrainedModel] | None = None,
    **options: Any,
) -> ContrastiveTrainer:
    """A trainer that reads the rows in order, `BATCH` of them on all processes together; `start` makes its model."""
    defaults: dict[str, Any] = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "save_strategy": "no"}
    defaults |= {"max_steps": STEPS, "logging_steps": 1, "log_geometry": False, "loss": setting.loss}
    defaults |= {"lr_scheduler_type": "constant", "per_device_train_batch_size": BATCH // world_size()}
    args = ContrastiveTrainingArguments(folder, **(defaults | OPTIMIZERS[setting.optimizer] | options))
    data = rows(setting.dtype)
    model = make_model(setting) if start is None else start()
    made = trainer(model, args, train_dataset=data, eval_dataset=data[:13])
    made._get_train_sampler = lambda *_: SequentialSampler(data)
    made.remove_callback(PrinterCallback)
    return made


def train(setting: Setting, folder: str) -> dict[str, Tensor]:
    """Weights after training, and `grad_norm`, the smallest norm before clipping."""
    trainer = make_parity_trainer(setting, folder)
    trainer.train()
    norms = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]
    assert len(norms) == STEPS
    return dict(trainer.model.state_dict()) | {"grad_norm": torch.tensor(min(norms))}


def train_all(settings: list[Setting], folder: str, run: Callable[[Setting, str], dict[str, Tensor]] = train) -> None:
    """Train under each setting on the processes of this group and leave the weights in `folder`."""
    for setting in settings:
        weights = run(setting, folder)
        if not dist.is_initialized() or dist.get_rank() == 0:
            torch.save(weights, Path(folder) / f"{world_size()} {setting.key}.pt")


def weights_by_processes(
    num_processes: int,
    settings: list[Setting],
    folder: Path,
    run: Callable[[Setting, str], dict[str, Tensor]] = train,
) -> dict[str, dict[str, Tensor]]:
    """Weights that `num_processes` reach, by setting. They start once for all settings."""
    if num_processes == 1:
        train_all(settings, str(folder), run)
    else:
        run_distributed(train_all, settings, str(folder), run, num_processes=num_processes)
    return {s.key: torch.load(folder / f"{num_processes} {s.key}.pt", weights_only=True) for s in settings}


def largest_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Largest absolute difference of any weight."""
    assert found.keys() == wanted.keys()
    return max(float((found[name].reshape(-1) - x.reshape(-1)).abs().max()) for name, x in wanted.items())
