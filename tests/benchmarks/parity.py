"""How far the weights of several processes are from those of one, and of sharded from whole ones.

    python -m tests.benchmarks.parity

20 steps of a tiny CLIP or SigLIP, gradients clipped at every one, the same 8 rows a step. Sharded trainings take 4 steps,
DeepSpeed's in single precision, which is what it computes in.
"""

import importlib.util
import tempfile
from pathlib import Path

import torch
from transformers import CLIPModel

from hf_contrastive.testing import run_distributed
from tests.benchmarks.timing import machine
from tests.training.parity import SETTINGS, Setting, largest_difference, make_model, weights_by_processes
from tests.training.sharded_training import losses, make_sharded_trainer, train_sharded


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| what | loss, optimizer | precision | largest difference of a weight |\n| :-- | :-- | :-- | --: |",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        one = weights_by_processes(1, SETTINGS, Path(folder))
        for num_processes in (2, 4):
            found = weights_by_processes(num_processes, SETTINGS, Path(folder))
            for setting in SETTINGS:
                difference = largest_difference(found[setting.key], one[setting.key])
                print(f"| {num_processes} processes | {setting.key} | float64 | {difference:.1e} |", flush=True)
    for kind in ("fsdp2", "zero1", "zero2", "zero3"):
        if kind == "fsdp2" or importlib.util.find_spec("deepspeed"):
            print(sharded(kind), flush=True)
    print(f"\n{machine()}", flush=True)


def sharded(kind: str) -> str:
    setting = Setting("clip", "adamw", torch.float64 if kind == "fsdp2" else torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        make_model(setting).save_pretrained(f"{folder}/start")
        one = make_sharded_trainer("ddp", setting, folder)
        one.train()
        run_distributed(train_sharded, kind, setting.dtype, folder, num_processes=2)
        found = CLIPModel.from_pretrained(f"{folder}/saved", dtype=setting.dtype)
        difference = largest_difference(found.state_dict(), one.model.state_dict())
        assert len(losses(one)) == 4
    return f"| {kind}, 2 processes | {setting.key} | {str(setting.dtype).removeprefix('torch.')} | {difference:.1e} |"


if __name__ == "__main__":
    main()
