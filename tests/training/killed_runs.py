"""Training runs that are killed, and the runs that go on from what they left, each in a process of its own."""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers.utils import logging

from hf_contrastive import ContrastiveCollator, ContrastiveTrainer, ContrastiveTrainingArguments, PairDataset
from hf_contrastive.models import small_clip
from hf_contrastive.training import checkpoints as checkpoints_module
from tests.conftest import TINY, make_dataset, make_pairs, tiny_clip


STEPS, SAVE_STEPS = 10, 4
# Saved in the middle of a log and of an epoch; a queue, dropout, a schedule, all generators.
COMMON: dict[str, Any] = {"max_steps": STEPS, "save_steps": SAVE_STEPS, "logging_steps": 3, "queue_size": 6}
COMMON |= {"loss": "clip", "queue_start": 0.0, "learning_rate": 1e-2, "lr_scheduler_type": "cosine", "warmup_steps": 3}
COMMON |= {"per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
TIMES = ("runtime", "per_second")


@dataclass(frozen=True, kw_only=True)
class NoisyCollator:
    """A collator that draws from every generator."""

    inner: Callable[[list[Any]], dict[str, Tensor]]

    def __call__(self, examples: list[Any]) -> dict[str, Tensor]:
        batch = self.inner(examples)
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        return {**batch, "pixel_values": batch["pixel_values"] + 0.1 * noise}


def _stack(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}


def build(kind: str, folder: Path, **options: Any) -> ContrastiveTrainer:
    """The trainer of a run on `captions` (a map with captions to draw from) or on a `stream`."""
    set_seed(0)
    data: Any
    collator: Callable[[list[Any]], dict[str, Tensor]]
    if kind == "stream":
        model, data, collator = tiny_clip(), make_dataset(4 * (STEPS + 2)).to_iterable_dataset(), _stack
    else:
        pairs: Dataset = make_pairs(24, many_captions=True)
        data = PairDataset(pairs, draw=True)
        model, processor = small_clip(data.captions, TINY)
        collator = ContrastiveCollator(processor=processor)
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.2
    args = ContrastiveTrainingArguments(str(folder), **(COMMON | options))
    return ContrastiveTrainer(model, args, train_dataset=data, data_collator=NoisyCollator(inner=collator))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _At(TrainerCallback):
    def __init__(self, event: str, step: int, act: Callable[[], None]) -> None:
        def at_step(args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                act()

        setattr(self, event, at_step)


def in_a_step(trainer: ContrastiveTrainer) -> None:
    """Die in the backward pass of step 7."""
    model: Any = trainer.model
    trainer.add_callback(_At("on_step_begin", 6, lambda: model.logit_scale.register_hook(lambda _: die())))


def after_a_save(trainer: ContrastiveTrainer) -> None:
    """Die with checkpoint 8 just written."""
    trainer.add_callback(_At("on_save", 8, die))


def in_a_save(trainer: ContrastiveTrainer) -> None:
    """Die with half of the optimizer of checkpoint 8 written."""
    whole = torch.save

    def half(content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        whole(content, file, *args, **kwargs)
        if Path(file).match("checkpoint-8/optimizer.pt"):
            os.truncate(file, os.path.getsize(file) // 2)
            die()

    torch.save = half


def before_the_manifest(trainer: ContrastiveTrainer) -> None:
    """Die with everything of checkpoint 8 written but its manifest."""
    write = checkpoints_module.write_manifest

    def last(folder: Path) -> None:
        if folder.name == "checkpoint-8":
            die()
        write(folder)

    checkpoints_module.write_manifest = last


def terminated(trainer: ContrastiveTrainer) -> None:
    """Be told to end in step 7."""
    assert trainer.preemption is not None
    assert trainer.preemption.jit_manager is not None
    trainer.preemption.jit_manager.kill_wait = 0

    def tell() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)  # the flag is set by a timer

    trainer.add_callback(_At("on_step_begin", 6, tell))


def in_process(act: Callable[[], None]) -> int:
    """Fork, act in the child, and say how it ended, as `waitpid` does: minus the signal that killed it, or its code."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(
    kind: str, folder: Path, out: Path | None, *, resume: bool = False, prepare: Any = None, **options: Any
) -> None:
    trainer = build(kind, folder, **options)
    trainer.remove_callback(PrinterCallback)
    if prepare is not None:
        prepare(trainer)
    trainer.train(resume_from_checkpoint=resume)
    if out is not None:
        weights = {name: x.clone() for name, x in trainer.model.state_dict().items()}
        queue = {m: rows.embeds for m, rows in trainer.queue.rows().items()} if trainer.queue else {}
        # Each start has an audit of its own.
        log = [
            {k: v for k, v in entry.items() if not (k.endswith(TIMES) or k.startswith("audit/"))}
            for entry in trainer.state.log_history
        ]
        torch.save({"weights": weights, "queue": queue, "log": log}, out)


def same(first: Any, second: Any) -> dict[str, bool]:
    """What is equal in two results, bit for bit."""
    found = {
        name: first[name].keys() == second[name].keys()
        and all(torch.equal(x, second[name][key]) for key, x in first[name].items())
        for name in ("weights", "queue")
    }
    # `train_loss` is by its definition in transformers that of the last call of `train`.
    losses = [[entry for entry in result["log"] if "train_loss" not in entry] for result in (first, second)]
    return found | {"log": losses[0] == losses[1]}


SCENARIOS: dict[str, tuple[Any, int]] = {
    "in step 7": (in_a_step, -signal.SIGKILL),
    "right after save 8": (after_a_save, -signal.SIGKILL),
    "in save 8, half of the optimizer written": (in_a_save, -signal.SIGKILL),
    "in save 8, all written but the manifest": (before_the_manifest, -signal.SIGKILL),
    "SIGTERM in step 7": (terminated, 0),
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "map": ("captions", {"save_total_limit": 1}),
    "map, 2 batches a step": ("captions", {"gradient_accumulation_steps": 2}),
    "map, 2 workers": ("captions", {"dataloader_num_workers": 2}),
    "stream": ("stream", {}),
}


def play(folder: Path, cases: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Kill and resume each run in each way; one row for each with what is equal to the run that was left alone."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    # What takes seconds to import is imported once, before the forks.
    build("stream", folder / "imports").accelerator.unwrap_model(tiny_clip())
    rows = []
    for run, scenario in cases:
        kind, options = RUNS[run]
        place = folder / run.replace(" ", "_").replace(",", "")
        whole = place / "whole.pt"
        if not whole.exists():
            assert in_process(partial(train, kind, place / "whole", whole, **options)) == 0
        prepare, expected = SCENARIOS[scenario]
        there, out = place / scenario.replace(" ", "_").replace(",", ""), place / f"{scenario}.pt"
        more = options | ({"enable_jit_checkpoint": True} if prepare is terminated else {})
        ended = in_process(partial(train, kind, there, None, prepare=prepare, **more))
        left = sorted(path.name for path in there.glob("checkpoint-*"))
        last = checkpoints_module.last_complete_checkpoint(there)
        code = in_process(partial(train, kind, there, out, resume=True, **options))
        row = {"run": run, "ended": scenario, "as_told": ended == expected, "left": left, "resumed": code == 0}
        row["from"] = None if last is None else Path(last).name
        rows.append(row | (same(torch.load(whole), torch.load(out)) if code == 0 else {}))
    return rows


if __name__ == "__main__":
    print(json.dumps(play(Path(sys.argv[1]), [tuple(case) for case in json.loads(sys.argv[2])])))
