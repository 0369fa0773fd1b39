"""Weights that change during training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias


SHAPES = ("constant", "linear", "cosine")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """
    A weight that goes from one value to another while training proceeds.

    Example:
    ```python
    get_loss("clip_divergence", weight=Schedule(start=0, end=0.1, shape="cosine", begin=0.5))
    ```
    or, in a YAML file, `loss_kwargs: {weight: {start: 0, end: 0.1, shape: cosine, begin: 0.5}}`.

    Args:
        start: Weight at `begin` and before.
        end: Weight at `finish`, after it, and whenever nothing is trained, as in evaluation.
        shape: How it gets there: in a `"linear"` way, along half a `"cosine"` (slowly at both ends), or `"constant"`,
            which jumps from `start` to `end` at `begin`.
        begin: Fraction of all training steps at which it starts to change.
        finish: Fraction of all training steps at which it has arrived.
    """

    start: float
    end: float
    shape: str = "linear"
    begin: float = 0.0
    finish: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"`shape` must be one of {', '.join(SHAPES)}, but got {self.shape!r}.")
        if not 0 <= self.begin < self.finish <= 1:
            raise ValueError(
                "`begin` and `finish` are fractions of training, 0 <= begin < finish <= 1, but got "
                f"{self.begin} and {self.finish}."
            )
        for name in ("start", "end"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"`{name}` must be finite, but got {getattr(self, name)}.")

    def at(self, progress: float) -> float:
        """The weight when the fraction `progress` of training is done.

        >>> Schedule(start=0, end=1, begin=0.5).at(0.75)
        0.5
        """
        if self.shape == "constant":
            return self.end if progress >= self.begin else self.start
        part = min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return self.start + (self.end - self.start) * part


Weight: TypeAlias = float | Schedule | Mapping[str, Any]


def as_schedule(weight: Weight, name: str) -> Schedule:
    """The schedule that a number, a [`Schedule`] or a mapping of its arguments, as YAML has it, stands for.

    Raises:
        ValueError: The mapping has other keys than a schedule or lacks one, or the number is not finite.
        TypeError: It is none of the three.
    """
    if isinstance(weight, Schedule):
        return weight
    if isinstance(weight, Mapping):
        known = [field.name for field in fields(Schedule)]
        if set(weight) - set(known) or not {"start", "end"} <= set(weight):
            raise ValueError(
                f"`{name}` as a schedule has `start`, `end` and optionally {', '.join(known[2:])}, but got "
                f"{', '.join(map(str, weight)) or 'nothing'}."
            )
        return Schedule(**weight)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(f"`{name}` must be a number, a Schedule or a mapping with `start` and `end`, got {weight!r}.")
    if not math.isfinite(weight):
        raise ValueError(f"`{name}` must be finite, but got {weight}.")
    return Schedule(start=float(weight), end=float(weight), shape="constant")
