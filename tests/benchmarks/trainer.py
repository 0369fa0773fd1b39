"""A training step of `ContrastiveTrainer` beside one of the plain `Trainer`, on a CLIP so small that overhead shows.

What is our own is told apart from what a loss costs: the plain `Trainer` also trains with our loss, by the `compute_loss`
that one would write by hand, without anything that `ContrastiveTrainer` is there for.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses import get_loss, total
from tests.benchmarks.timing import machine
from tests.conftest import make_dataset, tiny_clip


STEPS = 200
ROUNDS = 5


class ByHand(Trainer):
    """A `Trainer` with one of our losses and nothing else of ours."""

    def __init__(self, loss: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss = get_loss(loss)

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *_: Any, **__: Any) -> torch.Tensor:
        """The loss of one process's batch."""
        output = model(**inputs)
        embeds = {m: F.normalize(output[f"{m}_embeds"].float(), dim=1) for m in ("image", "text")}
        progress = self.state.global_step / self.state.max_steps
        return total(self.loss(ContrastiveBatch.whole(embeds, model.logit_scale.exp(), progress=progress)))


class StepTimes(TrainerCallback):
    """CPU time from one step's end to the next's: data, forward, backward, optimizer and logs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.process_time()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


def main() -> None:
    torch.set_num_threads(1)
    dataset = make_dataset(64)
    common = {"per_device_train_batch_size": 8, "max_steps": STEPS, "logging_steps": STEPS, "use_cpu": True}
    common |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
    with tempfile.TemporaryDirectory() as folder:

        def plain() -> Trainer:
            rows = [row | {"return_loss": True} for row in dataset]
            return Trainer(tiny_clip(), TrainingArguments(folder, **common), train_dataset=rows, data_collator=_stack)

        def by_hand(loss: str) -> Trainer:
            args = TrainingArguments(folder, **common)
            return ByHand(loss, tiny_clip(), args, train_dataset=list(dataset), data_collator=_stack)

        def ours(loss: str, **options: Any) -> Trainer:
            args = ContrastiveTrainingArguments(folder, loss=loss, **(common | options))
            return ContrastiveTrainer(tiny_clip(), args, train_dataset=list(dataset), data_collator=_stack)

        ways: dict[str, Callable[[], Trainer]] = {
            "Trainer": plain,
            "Trainer with `clip` by hand": lambda: by_hand("clip"),
            "ContrastiveTrainer, `clip`": lambda: ours("clip", log_geometry=False),
            "Trainer with `clip_divergence` by hand": lambda: by_hand("clip_divergence"),
            "ContrastiveTrainer, `clip_divergence`": lambda: ours("clip_divergence", log_geometry=False),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, make in ways.items():
                trainer, clock = make(), StepTimes()
                trainer.add_callback(clock)
                trainer.train()
                # On a shared machine the fastest tenth of the steps is the one that nobody disturbed.
                times[name].append(statistics.quantiles(clock.seconds, n=10)[0])
    print(
        f"Steps of a tiny CLIP, batch 8, CPU time of one thread: lower decile of {STEPS}, medians of {ROUNDS} runs\n"
    )

    def more(name: str, other: str) -> str:
        pairs = zip(times[name], times[other], strict=True)
        return f"{1000 * statistics.median(a - b for a, b in pairs):.2f}"

    print("| way | ms a step | more than the Trainer's | of our own |\n| :-- | --: | --: | --: |")
    for name, values in times.items():
        own = more(name, name.replace("ContrastiveTrainer,", "Trainer with") + " by hand") if "Cont" in name else ""
        print(f"| {name} | {1000 * statistics.median(values):.2f} | {more(name, 'Trainer')} | {own} |")
    print("\n" + machine())


def _stack(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor | bool]:
    tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "return_loss"}
    return tensors | ({"return_loss": True} if "return_loss" in rows[0] else {})


if __name__ == "__main__":
    main()
