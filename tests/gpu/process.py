"""One process of a training that a launcher starts: `process.py FOLDER`. Leaves in FOLDER what came out."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.gpu.trainers import dropout_clip, losses, make


def main(folder: Path) -> None:
    device = torch.device(os.environ.get("GPU_TESTS_ON", "cuda"))
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    options = {"save_strategy": "steps", "save_steps": 2, "queue_size": 12, "queue_start": 0.0}
    options |= {"encode_chunk_size": 3, "encode_keep_bytes": 0} if not sharded else {}
    trainer = make(dropout_clip(0.0), folder / "run", device, **options)
    trainer.train()
    metrics = trainer.evaluate()
    resumed = make(dropout_clip(0.0), folder / "run", device, **options)
    resumed.train(resume_from_checkpoint=str(folder / "run" / "checkpoint-2"))
    trainer.save_model(str(folder / "saved"))
    found = {"losses": losses(trainer), "resumed": losses(resumed), "eval_loss": metrics["eval_loss"]}
    found |= {"backend": dist.get_backend(), "kind": trainer.accelerator.distributed_type.value}
    if dist.get_rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
