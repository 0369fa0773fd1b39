"""Relative error of the gradient of CLIP's loss against double precision, ours and peers'.

python -m tests.benchmarks.losses_accuracy [rows] [--width 512]
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.benchmarks.losses import Way, clip, groups
from tests.benchmarks.timing import machine


SCALES = (14.3, 50.0, 100.0)


def gradient(way: Way, x: Tensor, y: Tensor, scale: float) -> Tensor:
    leaf = x.clone().requires_grad_()
    way(leaf, y, torch.tensor(scale, dtype=x.dtype)).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad


def hard_pairs(rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Pairs that a sharp softmax is still in doubt about, as real ones are: directions of few dimensions, much noise."""
    generator = torch.Generator().manual_seed(0)
    basis, latent = torch.randn(16, width, generator=generator), torch.randn(rows, 16, generator=generator)
    noise = [0.5 * torch.randn(rows, 16, generator=generator) for _ in range(2)]
    x, y = (F.normalize((latent + part) @ basis, dim=1) for part in noise)
    return x, y


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="?", type=int, default=2048)
    parser.add_argument("--width", type=int, default=512)
    args = parser.parse_args(arguments)
    x, y = hard_pairs(args.rows, args.width)
    # The reference differs from all ways in its precision, and from ours in nothing else: tests compare it with loops.
    exact = {scale: gradient(clip, x.double(), y.double(), scale) for scale in SCALES}
    print(f"Relative error of the gradient, {args.rows} x {args.width}, against double precision\n")
    print("| way | " + " | ".join(f"scale {scale:g}" for scale in SCALES) + " |")
    print("| :-- " + "| --: " * len(SCALES) + "|")
    for name, way in groups()["symmetric CLIP"].items():
        if name.startswith("sentence-transformers"):
            continue  # Its scale is a constant of the loss.
        errors = [(gradient(way, x, y, s).double() - exact[s]).norm() / exact[s].norm() for s in SCALES]
        print(f"| {name} | {' | '.join(f'{error:.1e}' for error in errors)} |", flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
