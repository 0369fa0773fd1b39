"""Paired timing: what is compared runs in turn, so that a machine's drift meets both alike."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version


def paired(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round that is not counted unless `warm_up` is off.

    On a machine that others use as well, `time.process_time` on one thread tells more than the wall clock.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(0 if warm_up else 1, rounds + 1):
        for name, way in ways.items():
            start = clock()
            way()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def table(title: str, seconds: Mapping[str, list[float]]) -> str:
    """Median, fastest and slowest of each way, and the median of its ratio to the first, round by round."""
    reference = next(iter(seconds.values()))
    lines = [f"{title}", "", "| way | median ms | min | max | ratio to the first |", "| :-- | --: | --: | --: | --: |"]
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values, reference, strict=True))
        cells = [f"{1000 * value:.1f}" for value in (statistics.median(values), min(values), max(values))]
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |")
    return "\n".join([*lines, "", machine()])


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "evaluate", "datasets"))
    return f"Python {platform.python_version()}, {packages}, {platform.machine()}"
