"""What one training run measured."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Measures of one trained model on one test pool.

    Args:
        name: What tables and plots call the run.
        loss: The loss with its options, as `repr` shows it.
        metrics: Measures by the names of [`geometry_report`] and [`retrieval_report`].
        train_seconds: Wall time of training.
        steps: Optimizer steps.
        batch_size: Rows of a batch of all processes.
        seed: Seed of weights and data order.
        test_rows: Size of the test pool.
        before: The same measures before training, where they were taken.
        resumed_at: Step from which the run was resumed; `train_seconds` counts from there.
    """

    name: str
    loss: str
    metrics: dict[str, float]
    train_seconds: float
    steps: int
    batch_size: int
    seed: int
    test_rows: int
    before: dict[str, float] | None = None
    resumed_at: int | None = None


def before_training(result: RunResult) -> list[RunResult]:
    """What a run measured before training, as a result of its own; empty where it did not."""
    return [] if result.before is None else [replace(result, name="before", metrics=result.before, train_seconds=0.0)]


def write_results(results: Sequence[RunResult], path: str | Path) -> None:
    """Write the runs as JSON, a list of objects."""
    Path(path).write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


def read_results(path: str | Path) -> list[RunResult]:
    """Read what [`write_results`] wrote."""
    return [RunResult(**result) for result in json.loads(Path(path).read_text(encoding="utf-8"))]
