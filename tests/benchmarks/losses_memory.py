"""Peak memory of losses, forward and backward, against peers.

    python -m tests.benchmarks.losses_memory [rows ...] [--width 512]

How far the resident set's high-water mark, put back before the step, rises above what is resident then: inputs, their
gradients and libraries. In a fresh process, on Linux.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from tests.benchmarks.losses import groups, random_pairs
from tests.benchmarks.timing import machine


# Logits of N x N that peers keep would not fit beside others on a shared machine.
LIMIT_MIB = 6000


def high_water_mark() -> int:
    """Peak resident set of this process, in KiB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def measure(group: str, way: str, rows: int, width: int) -> float:
    torch.set_num_threads(1)
    run = groups()[group][way]
    # Once, small: libraries and threads take their memory.
    for size in (64, rows):
        leaves = [z.requires_grad_() for z in random_pairs(size, width)] + [torch.tensor(20.0, requires_grad=True)]
        for leaf in leaves:
            leaf.grad = torch.zeros_like(leaf)
        # From here on, not from the peak of making the inputs.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = high_water_mark()
        run(*leaves).backward()
    return (high_water_mark() - before) / 1024


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--one", nargs=3, help="Group, way and rows to measure in this process.")
    parser.add_argument("--only", help="Name of one group.")
    args = parser.parse_args(arguments)
    if args.one:
        print(measure(args.one[0], args.one[1], int(args.one[2]), args.width))
        return
    print(f"Peak memory of one step in MiB, width {args.width}\n")
    print("| loss | way | " + " | ".join(f"N = {rows}" for rows in args.rows) + " |")
    print("| :-- | :-- " + "| --: " * len(args.rows) + "|")
    for group, ways in groups().items():
        for way in ways if args.only in (None, group) else ():
            cells: list[str] = []
            for rows in args.rows:
                cells.append(_in_a_fresh_process(group, way, rows, args.width, cells[-1] if cells else "0"))
            print(f"| {group} | {way} | {' | '.join(cells)} |", flush=True)
    print("\n" + machine())


def _in_a_fresh_process(group: str, way: str, rows: int, width: int, before: str) -> str:
    # Sixteen times the pairs may take sixteen times the memory.
    if before == "-" or float(before) * 16 > LIMIT_MIB:
        return "-"
    command = [sys.executable, "-m", "tests.benchmarks.losses_memory", "--width", str(width)]
    run = subprocess.run([*command, "--one", group, way, str(rows)], capture_output=True, text=True, check=True)
    return f"{float(run.stdout.split()[-1]):.0f}"


if __name__ == "__main__":
    main()
