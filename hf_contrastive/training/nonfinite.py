"""Steps whose loss or gradient is not finite: found on all processes together, told with their rows, never taken.

Whatever else one process may find wrong with a step travels with the same exchange, so that all of them stop.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.utils import logging

from hf_contrastive.distributed import any_process, from_all, rank, world_size
from hf_contrastive.functional.checks import NonFiniteError
from hf_contrastive.training.replays import TOLERANCE, refuse_other_embeddings


logger = logging.get_logger(__name__)

FILE = "nonfinite_batch.json"

# Row numbers of a batch.
Rows: TypeAlias = np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Seen:
    loss: Tensor
    terms: Mapping[str, Tensor]
    ids: Tensor | None
    fault: str | None = None


class StepGuard:
    """
    Watches the batches of each optimizer step.

    Args:
        limit (`int`):
            Steps that may be skipped in the whole run.
        output_dir (`str` or `Path`):
            Where `nonfinite_batch.json` goes.
    """

    def __init__(self, limit: int, output_dir: str | Path) -> None:
        self.limit, self.file = limit, Path(output_dir) / FILE
        self.skipped = False
        # Whether a scaler of half precision passes the step over, which optimizers that look after it themselves hide.
        self.overflowed = False
        self._seen: list[_Seen] = []
        self._rows: list[Rows | None] = []
        self._replays: list[Tensor] = []
        self._resumed = False
        self._told: list[dict[str, Any]] | None = None

    def start(self, *, resumed: bool) -> None:
        """A run begins, or goes on where another one stopped."""
        self._resumed, self._told = resumed, None

    def begin(self, rows: list[Rows | None]) -> None:
        """A step begins, with these rows of the dataset in each of its batches, where they are known."""
        self._seen, self._rows, self._replays, self.skipped, self.overflowed = [], rows, [], False, False

    def saw(self, loss: Tensor, terms: Mapping[str, Tensor], ids: Tensor | None) -> None:
        """Note the loss of one of this process's batches."""
        detached = {name: value.detach() for name, value in terms.items()}
        self._seen.append(_Seen(loss=loss.detach(), terms=detached, ids=ids))

    def saw_fault(self, fault: str, output: Mapping[str, Tensor], extra: list[Tensor], ids: Tensor | None) -> Tensor:
        """Note a batch that has no loss.

        Returns:
            A stand-in that is not finite and depends on everything the loss would, so that the backward pass is the same
            on all processes.
        """
        loss = torch.stack([x.float().sum() for x in [*output.values(), *extra]]).sum() * math.nan
        self._seen.append(_Seen(loss=loss.detach(), terms={}, ids=ids, fault=fault))
        return loss

    def saw_replay(self, difference: Tensor) -> None:
        """Note how far the embeddings of chunks that were embedded again are from the first ones."""
        self._replays.append(difference)

    def must_skip(
        self, grad_norm: Tensor | float | None, *, scaled: bool, stop: bool, device: torch.device
    ) -> tuple[bool, bool]:
        """Whether the step must not be taken, and whether any process asks to stop; the same on every process.

        Args:
            grad_norm: Norm of the gradient.
            scaled: Whether a scaler of half precision is in use. It has its own way with gradients that overflow: it
                skips the step and lowers the scale.
            stop: Whether this process asks.
            device: Where processes exchange.

        Raises:
            RuntimeError: On some process chunks that were embedded again are not what they were. All processes raise.
        """
        if isinstance(grad_norm, DTensor):
            # Of sharded parameters.
            grad_norm = grad_norm.full_tensor()
        values = [*(seen.loss for seen in self._seen), 0.0 if grad_norm is None else grad_norm, *self._replays]
        numbers = _read(values)
        losses, norm, replays = numbers[: len(self._seen)], numbers[len(self._seen)], numbers[len(self._seen) + 1 :]
        difference = max(replays, default=0.0)
        self.overflowed = scaled and not math.isfinite(norm)
        bad_norm = not scaled and not math.isfinite(norm)
        flags = [not all(map(math.isfinite, losses)), bad_norm, stop, difference > TOLERANCE]
        if world_size() > 1:
            flags = any_process(torch.tensor(flags, device=device)).tolist()
        bad_loss, bad_norm, stop, changed = flags
        if changed:
            refuse_other_embeddings(from_all(difference))
        self.skipped = bad_loss or bad_norm
        return self.skipped, stop

    def is_left_out(self) -> bool:
        """Whether the step, by this guard or by a scaler, does not change the weights."""
        return self.skipped or self.overflowed

    def tell(self, step: int, count: int, grad_norm: Tensor | float | None) -> None:
        """Write the rows of a step that is skipped to a file. Every process calls it.

        Args:
            step: Number of the step, from 1.
            count: Such steps so far, this one included.
            grad_norm: Norm of the gradient.

        Raises:
            NonFiniteError: There were more of them than the limit.
        """
        batches = [batch for process in from_all(self._batches()) for batch in process]
        faulty = [batch for batch in batches if isinstance(batch["loss"], str)]
        reasons = [batch["fault"] or f"the loss is {batch['loss']}" for batch in faulty]
        reason = reasons[0] if reasons else f"the norm of the gradient is {_number(grad_norm)}"
        if self._told is None:
            self._told = [entry for entry in self._told_before() if entry["step"] < step]
        self._told.append({"step": step, "reason": reason, "batches": faulty or batches})
        if rank() == 0:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self.file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(self._told, indent=1), encoding="utf-8")
            unfinished.replace(self.file)
        from_all(None)  # A process that raises ends the job, so not before the file is there.
        if count > self.limit:
            raise NonFiniteError(
                f"Step {step} is not finite: {reason}. It is number {count} of such steps, and `max_nonfinite_steps` "
                f"allows {self.limit}. {_first_rows(faulty or batches)} The whole batch is in {str(self.file)!r}. No "
                "checkpoint holds this step."
            )

    def _told_before(self) -> list[dict[str, Any]]:
        """What the run that this one goes on from has told. The main process alone reads and writes the file."""
        if rank() != 0 or not self._resumed or not self.file.exists():
            return []
        try:
            told: list[dict[str, Any]] = json.loads(self.file.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            logger.warning(f"{self.file} cannot be read, so it begins anew.")
            return []
        return told

    def _batches(self) -> list[dict[str, Any]]:
        return [
            {
                "rank": rank(),
                "batch_of_step": position,
                "loss": _number(seen.loss),
                "terms": {name: _number(value) for name, value in seen.terms.items()},
                "fault": seen.fault,
                "rows": None if position >= len(self._rows) else _numbers(self._rows[position]),
                "example_ids": _numbers(seen.ids),
            }
            for position, seen in enumerate(self._seen)
        ]


def _read(values: Sequence[Tensor | float]) -> list[float]:
    """Numbers of tensors; accelerators are waited for once."""
    far = [x for x in values if isinstance(x, Tensor) and x.device.type != "cpu"]
    if len(far) < 2:
        return [float(x) for x in values]
    # A model that is spread over several has its loss and its gradient's norm on different ones.
    read = iter(torch.stack([x.float().reshape(()).to(far[0].device) for x in far]).tolist())
    return [next(read) if isinstance(x, Tensor) and x.device.type != "cpu" else float(x) for x in values]


def _first_rows(batches: list[dict[str, Any]]) -> str:
    first = batches[0]
    for name, words in (("example_ids", "examples with the ids"), ("rows", "dataset rows")):
        if first[name]:
            more = " and more" if len(first[name]) > 8 or len(batches) > 1 else ""
            return f"Its {words} {str(first[name][:8]).strip('[]')}{more} were in the batch."
    return "Its rows have no known numbers: a stream has none, `id_column` of the collator gives them."


def _numbers(values: Tensor | Rows | None) -> list[int] | None:
    return None if values is None else values.tolist()


def _number(value: Tensor | float | None) -> float | str | None:
    """A number that JSON has; the others by name."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else str(number)
