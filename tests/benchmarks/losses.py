"""Time of the reductions, forward and backward, against peers and against the bare products of matrices.

    python -m tests.benchmarks.losses [rows ...] [--width 512] [--rounds 5]

CPU time of one thread, ways in turn. Peers that are not installed are left out and named. Memory: `losses_memory`.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.functional import (
    PairMask,
    log_partition,
    mean_info_nce,
    paired_log_partitions,
    positive_logits,
    self_log_partition,
    sigmoid_loss,
    uniformity,
)
from tests.benchmarks.peers import find_peers
from tests.benchmarks.timing import paired, table


Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def clip(x: Tensor, y: Tensor, scale: Tensor, **options: int) -> Tensor:
    mask = PairMask(positives=torch.arange(len(x)))
    rows, columns, paired = paired_log_partitions(x, y, scale, mask=mask, **options)
    return ((rows + columns) / 2 - paired).mean()


def clip_of_hugging_face(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    return image_text_contrastive_loss(y @ x.T * scale)


def linear_cross_entropies(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Torch's own chunked cross-entropy of a linear layer, in both directions."""
    return (one_linear_cross_entropy(x, y, scale) + one_linear_cross_entropy(y, x, scale)) / 2


def one_linear_cross_entropy(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(x * scale, y, torch.arange(len(x)), options=options)


def one_direction(x: Tensor, y: Tensor, scale: Tensor, **options: int) -> Tensor:
    rows = log_partition(x, y, scale, **options)
    return (rows - positive_logits(x, y, torch.arange(len(x)), scale)).mean()


def mean_one_direction(x: Tensor, y: Tensor, scale: Tensor, **options: int) -> Tensor:
    return mean_info_nce(x, y, torch.arange(len(x)), scale, **options)


def nt_xent(x: Tensor, y: Tensor, scale: Tensor, **options: int) -> Tensor:
    rows, columns, paired = paired_log_partitions(x, y, scale, **options)
    own, other = (self_log_partition(z, scale, **options) for z in (x, y))
    return ((torch.logaddexp(rows, own) + torch.logaddexp(columns, other)) / 2 - paired).mean()


def siglip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return sigmoid_loss(x, y, torch.arange(len(x)), scale, torch.tensor(-10.0, requires_grad=True))


def siglip_in_chunks(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """By chunks of 1,024 keys through autograd, which keeps the logits of all: `chunk_size` of open_clip's main branch,
    which no release has, goes so.
    """
    bias, total = torch.tensor(-10.0, requires_grad=True), x.new_zeros(())
    for start in range(0, len(y), 1024):
        logits = x @ y[start : start + 1024].T * scale + bias
        labels = -torch.ones_like(logits)
        columns = torch.arange(logits.shape[1])
        labels[start + columns, columns] = 1
        total = total - F.logsigmoid(labels * logits).sum()
    return total / len(x)


def under_autocast(way: Way) -> Way:
    def run(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return way(x, y, scale)

    return run


def products(count: int) -> Callable[[Tensor, Tensor], None]:
    """`count` bare products of matrices of the size of one between all pairs, in tiles as ours are."""

    def run(x: Tensor, y: Tensor) -> None:
        tile = min(1024, len(x))
        out, dx = torch.empty(tile, tile), torch.zeros_like(x)
        for i in range(0, len(x), tile):
            for j in range(0, len(y), tile):
                torch.mm(x[i : i + tile], y[j : j + tile].T, out=out[: len(x[i : i + tile]), : len(y[j : j + tile])])
                for _ in range(count - 2):
                    dx[i : i + tile].addmm_(out[: len(x[i : i + tile]), : len(y[j : j + tile])], y[j : j + tile])
                torch.mm(x[i : i + tile], y[j : j + tile].T, out=out[: len(x[i : i + tile]), : len(y[j : j + tile])])

    return run


def random_pairs(rows: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(rows, width, generator=generator), dim=1)
    return x, F.normalize(x + 0.05 * torch.randn(rows, width, generator=generator), dim=1)


def groups() -> dict[str, dict[str, Way]]:
    peers = find_peers()
    return {
        "symmetric CLIP": {
            "ours, nothing kept": lambda *z: clip(*z, keep_bytes=0),
            "ours, kept while it fits": clip,
            "ours, bfloat16 gradients": under_autocast(clip),
            "Hugging Face": clip_of_hugging_face,
            "Hugging Face, compiled": torch.compile(clip_of_hugging_face),
            "torch linear_cross_entropy twice": linear_cross_entropies,
            **peers.get("clip", {}),
            **{f"{name}, autocast": under_autocast(way) for name, way in peers.get("clip", {}).items()},
        },
        "sigmoid": {"ours": siglip, "in chunks, by autograd": siglip_in_chunks, **peers.get("siglip", {})},
        "one direction": {
            "ours, nothing kept": lambda *z: one_direction(*z, keep_bytes=0),
            "ours, kept while it fits": one_direction,
            "ours, the mean of all rows": lambda *z: mean_one_direction(*z, keep_bytes=0),
            "torch linear_cross_entropy": one_linear_cross_entropy,
            **peers.get("one direction", {}),
        },
        "NT-Xent": {
            "ours, nothing kept": lambda *z: nt_xent(*z, keep_bytes=0),
            "ours, kept while it fits": nt_xent,
            **peers.get("nt_xent", {}),
        },
        "uniformity": {"ours": lambda x, *_: uniformity(x, normalize=False), **peers.get("uniformity", {})},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", type=int, default=[1024, 4096])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="Name of one group.")
    parser.add_argument("--ways", nargs="*", help="First words of the ways to time. By default all.")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for rows in args.rows:
        for name, ways in groups().items():
            if args.only in (None, name):
                x, y = random_pairs(rows, args.width)
                timed = {label: _step(way, x, y) for label, way in ways.items()}
                if name == "symmetric CLIP":
                    timed |= {f"{n} bare products": lambda n=n, x=x, y=y: products(n)(x, y) for n in (3, 4)}
                if args.ways:
                    timed = {way: run for way, run in timed.items() if way.startswith(tuple(args.ways))}
                title = f"{name}, {rows} x {args.width}, forward and backward, CPU time of one thread"
                print(table(title, paired(timed, rounds=args.rounds, clock=time.process_time)), "\n", flush=True)


def _step(way: Way, x: Tensor, y: Tensor) -> Callable[[], None]:
    leaves = [x.clone().requires_grad_(), y.clone().requires_grad_(), torch.tensor(20.0, requires_grad=True)]

    def run() -> None:
        way(*leaves).backward()
        for leaf in leaves:
            leaf.grad = None

    return run


if __name__ == "__main__":
    main()
