"""Trainings that end in every other way than at their end, while the Hub fails: what each told, as JSON in the last line."""

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from hf_contrastive import ContrastiveTrainer
from hf_contrastive.hub import failures
from hf_contrastive.hub.background import BackgroundPushes
from hf_contrastive.training import pushing
from hf_contrastive.training.manifest import faults_of
from tests.hub.training_client import trainer_of


FOLDER = Path(sys.argv[1])


class AtStep(TrainerCallback):
    def __init__(self, step: int, act: Callable[[], None], pushes: BackgroundPushes | None) -> None:
        self.step, self.act, self.pushes = step, act, pushes

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step != self.step:
            return
        while self.pushes is not None and self.pushes._running is not None:
            time.sleep(0.01)
        self.act()


def crash() -> None:
    raise RuntimeError("a picture cannot be read")


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def report(trainer: ContrastiveTrainer, *, resume: bool = False) -> dict[str, Any]:
    raised = None
    try:
        trainer.train(resume_from_checkpoint=resume)
    except BaseException as error:
        raised = type(error).__name__
    kept = Path(trainer.args.output_dir) / "_unpushed"
    return {
        "raised": raised,
        "step": trainer.state.global_step,
        "unpushed": trainer.unpushed,
        "kept": sorted(path.name for path in kept.glob("*")),
        "faults": [fault for path in kept.glob("*") if path.is_dir() for fault in faults_of(path)],
    }


def ended(name: str, act: Callable[[], None], **options: Any) -> dict[str, Any]:
    common = {"max_steps": 6, "hub_strategy": "checkpoint", "save_total_limit": 1}
    trainer = trainer_of(name, **(common | options))
    # All pushes have failed by then, unless one is to be under way.
    trainer.add_callback(AtStep(2, act, None if name == "slow" else trainer.pushes))
    if trainer.preemption is not None:
        trainer.preemption.jit_manager.kill_wait = 0
    return report(trainer)


def main() -> None:
    warnings.simplefilter("ignore")
    failures.DELAYS = (0.01, 0.02)
    pushing.PATIENCE, pushing.PATIENCE_OF_TERMINATED = 0.5, 60.0
    reports = {
        "crash": ended("crash", crash),
        "interrupt": ended("interrupt", interrupt),
        "terminated": ended("terminated", terminate, enable_jit_checkpoint=True),
        # Its push takes longer than an ending process waits.
        "slow": ended("slow", crash, hub_strategy="all_checkpoints"),
        # The Hub is well again.
        "resumed": report(trainer_of("crash", max_steps=4, hub_strategy="all_checkpoints"), resume=True),
        "anew": report(trainer_of("interrupt", max_steps=1, hub_strategy="end")),
    }
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
