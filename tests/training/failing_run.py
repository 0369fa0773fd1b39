"""A training on several processes that a test kills, or whose second process meets a bad row: started by hand or launcher.

python -m tests.training.failing_run FOLDER {kill,raise}
"""

import os
import sys
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback, default_data_collator

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from tests.conftest import make_dataset, tiny_clip


class Announce(TrainerCallback):
    """Leave this process's id in a file once training is under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step == 3:
            part = self.folder / f"{args.process_index}.part"
            part.write_text(str(os.getpid()))
            part.rename(part.with_suffix(".pid"))


def main(folder: Path, way: str) -> None:
    args = ContrastiveTrainingArguments(
        str(folder),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        per_device_train_batch_size=4,
        max_steps=1_000_000,
        logging_steps=1_000_000,
    )
    read = 0

    def collate(rows: list[Any]) -> dict[str, Tensor]:
        nonlocal read
        read += 1
        if way == "raise" and args.process_index == 1 and read == 6:
            raise ValueError("Row 5 cannot be decoded.")
        return default_data_collator(rows)

    trainer = ContrastiveTrainer(
        tiny_clip(), args, train_dataset=make_dataset(32), data_collator=collate, callbacks=[Announce(folder)]
    )
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
