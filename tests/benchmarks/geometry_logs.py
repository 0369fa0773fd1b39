"""What the geometry in the logs costs beside the steps that it is logged for, and what it costs at evaluation.

A log comes after `logging_steps` steps, so its share is its time over theirs. A step is forward, loss, backward and
optimizer alone, without the trainer's own time and data loading: the shares are upper bounds.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.functional import effective_rank, entropy_rank, spectrum
from hf_contrastive.losses import get_loss, total
from hf_contrastive.metrics import full_geometry_report, retrieval_report
from hf_contrastive.models import SmallCLIPSize, small_clip
from hf_contrastive.testing import batch_of
from hf_contrastive.training.measure import LOGGED_ROWS, describe, geometry_logs
from tests.benchmarks.loader import vit_small
from tests.benchmarks.timing import machine, paired
from tests.conftest import make_inputs, tiny_clip


GOAL = 0.02


def inputs_of(model: Any, rows: int, tokens: int = 24) -> dict[str, torch.Tensor]:
    """Random pictures and captions."""
    generator = torch.Generator().manual_seed(0)
    text, side = model.config.text_config, model.config.vision_config.image_size
    ids = torch.randint(3, text.vocab_size - 1, (rows, min(tokens, text.max_position_embeddings)), generator=generator)
    ids[:, -1] = text.eos_token_id
    pixels = torch.randn(rows, 3, side, side, generator=generator)
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def recipe_model() -> Any:
    return small_clip(["a red star on grass", "a blue ring at night"], SmallCLIPSize())[0]


# Model, inputs, and how many rounds of step and log.
CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], dict[str, torch.Tensor]], int]] = {
    "tiny CLIP, batch 8": (tiny_clip, lambda _: make_inputs(8), 60),
    "the recipe's model, batch 256": (recipe_model, lambda model: inputs_of(model, 256), 5),
    "ViT-S/32, batch 32": (lambda: vit_small(8192), lambda model: inputs_of(model, 32), 3),
}


def shares() -> str:
    lines = [
        "| case | step, ms | log, ms | share, each step logged | share, every 10th | logging_steps below 2 % |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for name, (make, inputs, rounds) in CASES.items():
        torch.manual_seed(0)
        model = make()
        took, log = step_and_log(model, inputs(model), rounds)
        needed = math.ceil(log / took / GOAL)
        cells = [f"{1000 * took:.1f}", f"{1000 * log:.2f}", f"{log / took:.2%}", f"{log / took / 10:.2%}", f"{needed}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def step_and_log(model: Any, inputs: dict[str, torch.Tensor], rounds: int) -> tuple[float, float]:
    """Seconds of a step, and what geometry adds to a log of its batch."""
    loss, optimizer = get_loss("clip_divergence"), torch.optim.AdamW(model.parameters())
    latest = []

    def step() -> None:
        with contrastive_forward(model):
            batch = batch_of(model(**inputs))
        latest[:] = [batch]
        total(loss(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    ways = {"step": step, "log": lambda: describe(latest[0]), "bare": lambda: describe(latest[0], geometry=False)}
    took, log, bare = (statistics.median(x) for x in paired(ways, rounds=rounds, clock=time.process_time).values())
    return took, log - bare


def clouds(rows: int, width: int) -> dict[str, torch.Tensor]:
    """Matching rows with a gap."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(rows, width, generator=generator)
    return {
        m: F.normalize(common + torch.randn(rows, width, generator=generator) + shift, dim=1)
        for m, shift in (("image", 0.2), ("text", -0.2))
    }


def median_ms(call: Callable[[], object], rounds: int) -> float:
    return 1000 * statistics.median(paired({"call": call}, rounds=rounds, clock=time.process_time)["call"])


def batches(sizes: Sequence[int], rounds: int) -> str:
    lines = [
        "| rows x width | log, ms | effective rank of all rows in double precision, ms | as in logs, ms |",
        "| :-- | --: | --: | --: |",
    ]
    for rows in sizes:
        embeds = clouds(rows, 512)
        x = embeds["image"]
        times = [
            median_ms(lambda e=embeds: geometry_logs(e), rounds),
            median_ms(lambda x=x: effective_rank(x), rounds),
            median_ms(lambda x=x: entropy_rank(spectrum(x[:LOGGED_ROWS], double=False)), rounds),
        ]
        lines.append(f"| {rows} x 512 | {' | '.join(f'{value:.1f}' for value in times)} |")
    return "\n".join(lines)


def evaluations(sizes: Sequence[tuple[int, int]]) -> str:
    lines = ["| rows x width | geometry, s | retrieval, s |", "| :-- | --: | --: |"]
    for rows, width in sizes:
        embeds = clouds(rows, width)
        geometry = median_ms(lambda e=embeds: full_geometry_report(e), 1) / 1000
        retrieval = median_ms(lambda e=embeds: retrieval_report(e, detailed=True), 1) / 1000
        lines.append(f"| {rows} x {width} | {geometry:.2f} | {retrieval:.2f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print("Geometry and retrieval in a training log, CPU time of one thread\n")
    print(shares())
    print(f"\nOf larger batches, of which {LOGGED_ROWS} rows stand for all where pairs of rows count\n")
    print(batches((256, 1024, 4096, 16384), args.rounds))
    print("\nAt evaluation\n")
    print(evaluations(((1000, 128), (1000, 512), (5000, 512))))
    print("\n" + machine())


if __name__ == "__main__":
    main()
