"""Metrics at large N against peers: time, peak memory, and how far they are from the truth.

    python -m tests.benchmarks.metrics [--only uniformity|estimate|retrieval] [--rows 40000] [--rounds 3]

CPU time of one thread, ways in turn. Peers that are not installed are left out and named. Each way's memory is measured
in a process of its own.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.functional import Moments, two_way_retrieval_ranks, uniformity, uniformity_estimate
from tests.benchmarks.losses_memory import high_water_mark
from tests.benchmarks.timing import paired, table


WIDTH = 512
KS = (1, 5, 10)
Recalls = dict[str, float]
# Rows up to which a way is tried: it would take minutes or memory that is not there.
MOST_ROWS = {"open_clip 3.3.0": 5000, "sentence-transformers, one direction": 5000}


def cloud(kind: str, rows: int, seed: int = 0) -> Tensor:
    """An isotropic cloud, one whose spectrum falls by a power law, or a thousand clusters of Zipf's sizes."""
    generator, fixed = (torch.Generator().manual_seed(number) for number in (seed, 1_000_003))
    x = torch.randn(rows, WIDTH, generator=generator)
    if kind == "power law":
        x *= torch.arange(1, WIDTH + 1).float().pow(-0.7)
        x += 0.05
    if kind == "clusters":
        centers = F.normalize(torch.randn(1000, WIDTH, generator=fixed), dim=1)
        x *= 0.65 / WIDTH**0.5
        x += centers[torch.multinomial(1 / torch.arange(1.0, 1001), rows, True, generator=generator)]
    return x.div_(x.norm(dim=1, keepdim=True))


KINDS = ("isotropic", "power law", "clusters")


def pairs(rows: int) -> tuple[Tensor, Tensor]:
    """Pairs so far apart that about half of the queries find theirs first."""
    x = cloud("isotropic", rows)
    return x, F.normalize(x + 0.23 * cloud("isotropic", rows, seed=1) * WIDTH**0.5, dim=1)


# ---- Uniformity ----


def pdist(x: Tensor) -> Tensor:
    """Uniformity as the paper's authors compute it (github.com/ssnl/align_uniform)."""
    return torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log()


def pdist_in_place(x: Tensor) -> Tensor:
    return torch.pdist(x, p=2).square_().mul_(-2).exp_().mean().log()


def time_uniformity(rows: int, rounds: int) -> None:
    x = cloud("isotropic", rows)
    ways = {"torch.pdist": pdist, "torch.pdist, in place": pdist_in_place, "ours, exact": uniformity}
    values = {name: float(way(x)) for name, way in ways.items()}
    title = f"uniformity, {rows} x {WIDTH}, forward, CPU time of one thread"
    print(table(title, paired({n: lambda w=w: w(x) for n, w in ways.items()}, rounds=rounds, clock=time.process_time)))
    exact = float(uniformity(x.double())) if rows <= 10_000 else None
    print(f"Values: {values}" + (f"; in double precision {exact}" if exact else ""), "\n", flush=True)


# ---- The estimate ----


def errors_of_the_estimate(rows: int, seeds: int) -> None:
    print(f"the estimate of {rows} x {WIDTH} against all pairs, {seeds} seeds\n")
    print("| cloud | block | exact | rms error | mean standard error | rms of error / standard error | CPU s |")
    print("| :-- | --: | --: | --: | --: | --: | --: |")
    for kind in KINDS:
        x = cloud(kind, rows)
        exact = float(uniformity(x))
        for block in (2048, 8192):
            start = time.process_time()
            found = [uniformity_estimate(x, block=block, seed=seed) for seed in range(seeds)]
            seconds = (time.process_time() - start) / seeds
            errors = [value - exact for value, _ in found]
            ratios = [error / bar for error, (_, bar) in zip(errors, found, strict=True)]
            bar = statistics.mean(bar for _, bar in found)
            cells = f"{exact:.4f} | {_rms(errors):.1e} | {bar:.1e} | {_rms(ratios):.2f} | {seconds:.2f}"
            print(f"| {kind} | {block} | {cells} |", flush=True)
    print()


def _rms(values: list[float]) -> float:
    return statistics.mean(value * value for value in values) ** 0.5


def estimate_of_a_file(rows: int, kind: str, folder: Path) -> None:
    """The estimate of a memory-mapped array, made chunk by chunk, and its moments alone."""
    path = folder / f"{kind}-{rows}.npy".replace(" ", "-")
    x = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, WIDTH))
    for start in range(0, rows, 50_000):
        x[start : start + 50_000] = cloud(kind, min(50_000, rows - start), seed=start).numpy()
    x.flush()
    x = np.load(path, mmap_mode="r")
    torch.tensor(x[:8])
    start = time.process_time()
    value, error = uniformity_estimate(x)
    seconds = time.process_time() - start
    start = time.process_time()
    moments = Moments(WIDTH)
    for first in range(0, rows, 4096):
        moments.update(torch.tensor(x[first : first + 4096]))
    alone = time.process_time() - start
    print(f"| {kind} | {rows} | {value:.5f} | {error:.1e} | {seconds:.1f} | {alone:.1f} |", flush=True)
    path.unlink()


# ---- Retrieval ----


def ours(x: Tensor, y: Tensor) -> Recalls:
    named = zip(("x", "y"), two_way_retrieval_ranks(x, y), strict=True)
    return {f"{name}@{k}": float(ranks.recall(k)) for name, ranks in named for k in KS}


def open_clip_release(x: Tensor, y: Tensor) -> Recalls:
    """`get_clip_metrics` of open_clip 3.3.0, which sorts all scores in both directions; copied, as it imports a trainer."""
    scores, truth, recalls = x @ y.T, torch.arange(len(x)).view(-1, 1), {}
    for name, table_of_scores in (("x", scores), ("y", scores.T)):
        places = torch.where(torch.argsort(table_of_scores, descending=True) == truth)[1]
        recalls |= {f"{name}@{k}": float((places < k).double().mean()) for k in KS}
    return recalls


def open_clip_main(x: Tensor, y: Tensor, chunk: int = 4096) -> Recalls:
    """What open_clip's main branch does in place of that: chunks of 4,096 x 4,096 scores, whose better ones, and equal
    ones of a lower number, are counted in both directions. Written anew.
    """
    starts = range(0, len(x), chunk)
    numbers = torch.arange(len(x))
    own = torch.cat([(x[i : i + chunk] @ y[i : i + chunk].T).diagonal() for i in starts])
    forth, back = torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), dtype=torch.long)
    for i in starts:
        for j in starts:
            scores = x[i : i + chunk] @ y[j : j + chunk].T
            rows, columns = numbers[i : i + chunk, None], numbers[None, j : j + chunk]
            left, right = own[i : i + chunk, None], own[None, j : j + chunk]
            forth[i : i + chunk] += ((scores > left) | ((scores == left) & (columns < rows))).sum(dim=1)
            back[j : j + chunk] += ((scores > right) | ((scores == right) & (rows < columns))).sum(dim=0)
    return {f"{n}@{k}": float((z < k).double().mean()) for n, z in (("x", forth), ("y", back)) for k in KS}


def faiss_exact(x: Tensor, y: Tensor) -> Recalls:
    """`IndexFlatIP`, ten neighbors, one index for each direction."""
    import faiss

    faiss.omp_set_num_threads(1)
    recalls: Recalls = {}
    for name, queries, keys in (("x", x, y), ("y", y, x)):
        index = faiss.IndexFlatIP(WIDTH)
        index.add(keys.numpy())
        _, found = index.search(queries.numpy(), max(KS))
        hits = torch.from_numpy(found) == torch.arange(len(queries)).unsqueeze(1)
        recalls |= {f"{name}@{k}": float(hits[:, :k].any(dim=1).double().mean()) for k in KS}
    return recalls


def sentence_transformers_evaluator(x: Tensor, y: Tensor) -> Recalls:
    """`InformationRetrievalEvaluator`, embeddings given, recall alone."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    names = {str(i): str(i) for i in range(len(x))}
    evaluator = InformationRetrievalEvaluator(
        names,
        names,
        {name: {name} for name in names},
        accuracy_at_k=list(KS),
        precision_recall_at_k=list(KS),
        mrr_at_k=[10],
        ndcg_at_k=[10],
        map_at_k=[10],
        show_progress_bar=False,
        write_csv=False,
        score_functions={"dot": lambda a, b: torch.as_tensor(a) @ torch.as_tensor(b).T},
        main_score_function="dot",
    )
    rows = {"query": x, "document": y}
    # The corpus is asked for in chunks.
    evaluator.embed_inputs = lambda _, names, encode_fn_name, **__: rows[encode_fn_name][int(names[0]) :][: len(names)]
    values = evaluator(_Model())
    return {f"x@{k}": float(values[f"dot_recall@{k}"]) for k in KS}


class _Model:
    """What the evaluator asks of a model whose embeddings it is given."""

    similarity_fn_name = "dot"

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b.T

    class _Card:
        def set_evaluation_metrics(self, *_: object) -> None:
            pass

    model_card_data = _Card()


def retrieval_ways() -> dict[str, Callable[[Tensor, Tensor], Recalls]]:
    ways: dict[str, Callable[[Tensor, Tensor], Recalls]] = {
        "ours": ours,
        "open_clip main": open_clip_main,
        "open_clip 3.3.0": open_clip_release,
    }
    for package, name, way in (
        ("faiss", "faiss IndexFlatIP, k = 10", faiss_exact),
        ("sentence_transformers", "sentence-transformers, one direction", sentence_transformers_evaluator),
    ):
        if importlib.util.find_spec(package) is None:
            print(f"Without {package}, which is not installed.")
        else:
            ways[name] = way
    return ways


def time_retrieval(rows: int, rounds: int, *, with_memory: bool) -> None:
    x, y = pairs(rows)
    ways = {name: way for name, way in retrieval_ways().items() if rows <= MOST_ROWS.get(name, rows)}
    found: dict[str, Recalls] = {}

    def keep(name: str) -> Callable[[], None]:
        return lambda: found.update({name: ways[name](x, y)})

    # All of them would take minutes to warm up on all rows.
    for way in ways.values():
        way(*pairs(600))
    timed = {name: keep(name) for name in ways}
    seconds = paired(timed, rounds=rounds, clock=time.process_time, warm_up=False)
    print(table(f"recall both ways, {rows} pairs of width {WIDTH}, CPU time of one thread", seconds), "\n")
    print("| way | " + " | ".join(found["ours"]) + " | extra memory, MiB |")
    print("| :-- " + "| --: " * (1 + len(found["ours"])) + "|")
    for name, recalls in found.items():
        cells = [f"{recalls[key]:.5f}" if key in recalls else "" for key in found["ours"]]
        grown = _in_a_fresh_process(name, rows) if with_memory else ""
        print(f"| {name} | {' | '.join(cells)} | {grown} |", flush=True)
    print()


def _in_a_fresh_process(way: str, rows: int) -> str:
    command = [sys.executable, "-m", "tests.benchmarks.metrics", "--memory", way, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.returncode == 0 else f"failed: {done.stderr.splitlines()[-1]}"


def memory(way: str, rows: int) -> float:
    run = retrieval_ways()[way]
    # Once, small: libraries take their memory.
    run(*pairs(600))
    x, y = pairs(rows)
    before = _reset_high_water_mark()
    run(x, y)
    return (high_water_mark() - before) / 1024


def _reset_high_water_mark() -> int:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return high_water_mark()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=["uniformity", "estimate", "retrieval"])
    parser.add_argument("--rows", nargs="*", type=int, help="By default those of the goals.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"), help="Where 2 GiB of rows may lie for a while.")
    parser.add_argument("--no-memory", action="store_true", help="Do not measure memory, which runs everything again.")
    parser.add_argument("--memory", nargs=2, help="Way and rows to measure in this process.")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.memory:
        print(f"{memory(args.memory[0], int(args.memory[1])):.0f}")
        return
    found = [name for name in ("faiss-cpu", "sentence-transformers") if _installed(name)]
    print(f"Load {os.getloadavg()[0]:.0f}; " + ", ".join(f"{name} {version(name)}" for name in found), "\n")
    if args.only in (None, "uniformity"):
        for rows in args.rows or (10_000, 20_000):
            time_uniformity(rows, args.rounds)
    if args.only in (None, "estimate"):
        errors_of_the_estimate(40_000, seeds=6)
        print("the estimate of a file of float32, block 8192\n")
        print("| cloud | rows | value | standard error | CPU s | of which moments |")
        print("| :-- | --: | --: | --: | --: | --: |")
        for rows in args.rows or (100_000, 1_000_000):
            for kind in KINDS:
                estimate_of_a_file(rows, kind, args.folder)
        print()
    if args.only in (None, "retrieval"):
        for rows in args.rows or (5000, 10_000, 40_000):
            time_retrieval(rows, args.rounds, with_memory=not args.no_memory)


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
