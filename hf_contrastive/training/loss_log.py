"""What was measured since the last log: kept by optimizer step, saved in checkpoints, without the steps that are skipped."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


class LossLog:
    """Loss terms since the last log and the number of steps that they are from.

    Args:
        nonfinite_steps: Steps that were skipped since training began, because they were not finite.
        accepted: Optimizer steps since the last log.
        skipped: Steps since the last log that were not finite.
        skipped_here: Those since this call of `train` began.
    """

    def __init__(self) -> None:
        self.nonfinite_steps = self.accepted = self.skipped = self.skipped_here = 0
        self._terms: dict[str, list[Tensor]] = defaultdict(list)
        self._of_step: dict[str, list[Tensor]] = defaultdict(list)
        self._summed: Tensor | None = None

    def begin(self) -> None:
        """A step begins."""
        self._of_step.clear()

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Note the terms of one batch of the present step."""
        for name, value in terms.items():
            self._of_step[f"loss/{name}"].append(value.detach())

    def accept(self) -> None:
        """The present step counts."""
        for name, values in self._of_step.items():
            # As the Trainer counts: a step is one, however many batches it has.
            self._terms[name].append(values[0] if len(values) == 1 else torch.stack(values).mean())
        self.accepted += 1

    def skip(self) -> None:
        """The present step does not count."""
        self.skipped += 1
        self.skipped_here += 1
        self.nonfinite_steps += 1

    def take(self, logs: dict[str, float], mean: Callable[[Tensor], float]) -> None:
        """Complete a log with terms (means over processes by `mean`) and skipped steps, and begin the next one."""
        if self.skipped:
            # The Trainer has divided by all steps, and skipped ones added nothing.
            logs["loss"] *= (self.accepted + self.skipped) / self.accepted if self.accepted else float("nan")
        for name, values in self._terms.items():
            logs[name] = mean(torch.stack(values).mean())
        if self.nonfinite_steps:
            logs["nonfinite_steps"] = self.nonfinite_steps
        self._terms.clear()
        self.accepted = self.skipped = 0

    def save(self, file: Path, summed: Tensor) -> None:
        """Write it as safetensors, with the loss that the Trainer has `summed` since the last log."""
        counts = torch.tensor([self.accepted, self.skipped, self.nonfinite_steps])
        terms = {name: torch.stack(values) for name, values in self._terms.items()}
        save_file(terms | {"counts": counts, "summed": summed.detach().clone()}, file)

    def load(self, file: Path, device: torch.device | str = "cpu") -> None:
        """Read what [`save`] wrote, to the device of the terms that will follow."""
        tensors = load_file(file)
        self.accepted, self.skipped, self.nonfinite_steps = map(int, tensors.pop("counts"))
        tensors = {name: value.to(device) for name, value in tensors.items()}
        self._summed = tensors.pop("summed")
        self._terms = defaultdict(list, {name: list(values) for name, values in tensors.items()})

    def pop_summed(self) -> Tensor | None:
        """The loss that the Trainer had summed when the loaded checkpoint was written, once."""
        summed, self._summed = self._summed, None
        return summed
