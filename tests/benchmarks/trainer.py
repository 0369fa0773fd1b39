"""A training step of `ContrastiveTrainer` beside one of the plain `Trainer`, on a CLIP so small that overhead shows."""

import tempfile

import torch
from transformers import Trainer, TrainingArguments

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from tests.benchmarks.timing import paired, table
from tests.conftest import make_dataset, tiny_clip


STEPS = 50


def main() -> None:
    dataset = make_dataset(64)
    torch.set_num_threads(1)
    common = {"per_device_train_batch_size": 8, "max_steps": STEPS, "logging_steps": STEPS, "use_cpu": True}
    common |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
    with tempfile.TemporaryDirectory() as folder:

        def plain() -> None:
            rows = [row | {"return_loss": True} for row in dataset]
            Trainer(tiny_clip(), TrainingArguments(folder, **common), train_dataset=rows, data_collator=_stack).train()

        def ours(geometry: bool) -> None:
            args = ContrastiveTrainingArguments(folder, loss="clip", log_geometry=geometry, **common)
            ContrastiveTrainer(tiny_clip(), args, train_dataset=list(dataset), data_collator=_stack).train()

        ways = {"Trainer": plain, "ContrastiveTrainer": lambda: ours(False), "with geometry": lambda: ours(True)}
        print(table(f"{STEPS} steps of a tiny CLIP, one thread, the trainer's construction included", paired(ways)))


def _stack(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor | bool]:
    tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "return_loss"}
    return tensors | ({"return_loss": True} if "return_loss" in rows[0] else {})


if __name__ == "__main__":
    main()
