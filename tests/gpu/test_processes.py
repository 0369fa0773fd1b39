"""Process groups on one GPU: NCCL with a single process, FSDP2 as shipped, and two gloo processes that share the GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hf_contrastive.distributed import gather_batch
from hf_contrastive.losses import get_loss, total
from hf_contrastive.testing import batch_of, random_output, run_distributed
from tests.gpu.trainers import dropout_clip, losses, make


ROOT = Path(__file__).parents[2]
PROCESS = str(Path(__file__).with_name("process.py"))


def launch(folder: Path, *command: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", *command, PROCESS, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.distributed
def test_one_process_of_a_group_trains_as_one_without(device: torch.device, tmp_path: Path):
    alone = make(dropout_clip(0.0), tmp_path / "alone", device, queue_size=12, queue_start=0.0)
    alone.train()
    command = ("torch.distributed.run", "--nnodes=1", "--standalone", "--nproc_per_node=1")
    found = launch(tmp_path, *command)
    assert found["losses"] == pytest.approx(losses(alone), rel=1e-4)
    assert found["resumed"] == found["losses"]
    assert found["eval_loss"] == pytest.approx(alone.evaluate()["eval_loss"], rel=1e-4)
    if device.type == "cuda":
        assert (found["backend"], found["kind"]) == ("nccl", "MULTI_GPU")


@pytest.mark.distributed
def test_the_shipped_fsdp2_configuration_trains_on_one_gpu(cuda: torch.device, tmp_path: Path):
    alone = make(dropout_clip(0.0), tmp_path / "alone", cuda, queue_size=12, queue_start=0.0, bf16=True)
    alone.train()
    config = ROOT / "recipes" / "accelerate" / "fsdp2.yaml"
    command = ("accelerate.commands.launch", "--config_file", str(config), "--num_processes", "1")
    found = launch(tmp_path, *command)
    assert found["kind"] == "FSDP"
    # Both in bfloat16, each rounding in its own places.
    assert found["losses"] == pytest.approx(losses(alone), rel=3e-2)
    assert found["resumed"] == pytest.approx(found["losses"], rel=1e-6)
    saved = type(alone.model).from_pretrained(tmp_path / "saved")
    assert {name: x.shape for name, x in saved.state_dict().items()} == {
        name: x.shape for name, x in alone.model.state_dict().items()
    }


@pytest.mark.distributed
def test_two_processes_that_share_a_gpu_mean_what_one_does(device: torch.device):
    run_distributed(_share, device.type, num_processes=2)


def _share(device: str) -> None:
    for name in ("clip", "clip_divergence", "siglip", "sup_con", "align_uniform", "barlow_twins"):
        whole, part = random_output(), random_output()
        loss = get_loss(name)
        expected = torch.autograd.grad(total(loss(batch_of(whole))), list(whole.embeds.values()))
        mine = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
        own = part._replace(
            embeds={m: x[mine].to(device) for m, x in part.embeds.items()},
            logit_scale=part.logit_scale.to(device),
            logit_bias=part.logit_bias.to(device),
        )
        share = torch.autograd.grad(total(loss(gather_batch(own))), list(part.embeds.values()))
        for actual, wanted in zip(share, expected, strict=True):
            # DDP takes the mean over processes.
            assert (actual[mine] / 2 - wanted[mine]).abs().max() < 1e-9, name
