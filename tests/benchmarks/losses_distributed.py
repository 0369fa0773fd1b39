"""CLIP on two gloo processes: ours, which exchanges log sums, against open_clip's exact settings.

    python -m tests.benchmarks.losses_distributed [rows of a process ...] [--width 512]

CPU time of one process with one thread, ways in turn, gathering included.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from hf_contrastive.distributed import gather_batch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.losses import CLIP, total
from hf_contrastive.testing import run_distributed
from tests.benchmarks.losses import random_pairs
from tests.benchmarks.peers import open_clip_loss
from tests.benchmarks.timing import paired, table


def ours(x: Tensor, y: Tensor, scale: Tensor, **options: int) -> Tensor:
    return total(CLIP(**options)(gather_batch(EncoderOutput({"image": x, "text": y}, scale))))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", type=int, default=[1024, 2048])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(arguments)
    run_distributed(_in_process, args.rows, args.width, args.rounds, num_processes=2)


def _in_process(sizes: list[int], width: int, rounds: int) -> None:
    for rows in sizes:
        x, y = random_pairs(2 * rows, width)
        mine = slice(dist.get_rank() * rows, (dist.get_rank() + 1) * rows)
        leaves = [x[mine].requires_grad_(), y[mine].requires_grad_(), torch.tensor(20.0, requires_grad=True)]
        ways: dict[str, Callable[..., Tensor]] = {
            "ours, kept while it fits": ours,
            "ours, nothing kept": partial(ours, keep_bytes=0),
            "open_clip, local loss, gather with gradient": open_clip_loss(local_loss=True),
            "open_clip, global loss, gather with gradient": open_clip_loss(local_loss=False),
        }
        timed = {name: partial(_step, way, leaves) for name, way in ways.items()}
        title = f"CLIP, two processes with {rows} x {width} each, forward and backward, CPU time of one"
        text = table(title, paired(timed, rounds=rounds, clock=time.process_time))
        if dist.get_rank() == 0:
            print(text, "\n", flush=True)


def _step(way: Callable[..., Tensor], leaves: list[Tensor]) -> None:
    way(*leaves).backward()  # type: ignore[no-untyped-call]
    for leaf in leaves:
        leaf.grad = None


if __name__ == "__main__":
    main()
