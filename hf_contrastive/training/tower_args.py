"""Arguments that say which towers are trained, how fast, and what is averaged."""

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments


@dataclass(repr=False)
class TowerTrainingArguments(TrainingArguments):
    r"""
    Arguments of the [`TowerTrainer`], added to those of [`~transformers.TrainingArguments`].

    Towers are named by modality as in the model's `<modality>_embeds`, see [`find_towers`].

    Args:
        freeze_towers (`list[str]`, *optional*):
            Towers whose encoders are frozen: no gradient, no dropout, no activations kept. Projections stay trainable.
        unfreeze_last (`dict[str, int]`, *optional*):
            By tower, how many of its last layers are trained, with all that comes after them; the rest of the tower is
            frozen. On the command line, as JSON.
        freeze_projections (`list[str]`, *optional*):
            Towers whose projections are frozen.
        tower_learning_rates (`dict[str, float]`, *optional*):
            Peak learning rates of towers with their projections. `<modality>_projection` is that of a projection alone.
            By default `learning_rate`. On the command line, as JSON.
        layer_decay (`float`, *optional*):
            Learning rate of a block relative to the one above, from 0 (excluded) to 1. Projection and head have the
            tower's learning rate, the last layer `layer_decay` times that, embeddings the least.
        ema_decay (`float`, *optional*):
            Keep an exponential moving average of what is trained, with this share of the old average kept at each step,
            from 0 to below 1. It is saved in checkpoints.
        evaluate_ema (`bool`, *optional*, defaults to `False`):
            Whether `evaluate` and `predict` use the averages for weights.
        save_ema (`bool`, *optional*, defaults to `False`):
            Whether the averages become the model's weights when training ends. Checkpoints keep both.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "unfreeze_last", "tower_learning_rates"]  # noqa: RUF012

    freeze_towers: list[str] | None = field(default=None, metadata={"help": "Towers whose encoders are frozen."})
    unfreeze_last: dict[str, int] | str | None = field(
        default=None, metadata={"help": "By tower, how many of its last layers are trained, as JSON."}
    )
    freeze_projections: list[str] | None = field(
        default=None, metadata={"help": "Towers whose projections are frozen."}
    )
    tower_learning_rates: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Peak learning rates by tower, as JSON. By default `learning_rate`."}
    )
    layer_decay: float | None = field(
        default=None, metadata={"help": "Learning rate of a block relative to the one above."}
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Share of the old moving average kept at each step. By default there is none."}
    )
    evaluate_ema: bool = field(default=False, metadata={"help": "Whether to evaluate the moving average."})
    save_ema: bool = field(default=False, metadata={"help": "Whether the moving average is the model in the end."})

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers("unfreeze_last", self.unfreeze_last, lambda n: type(n) is int and n >= 0, "whole numbers")
        _check_numbers(
            "tower_learning_rates",
            self.tower_learning_rates,
            lambda rate: isinstance(rate, int | float) and 0 <= rate < float("inf"),
            "learning rates",
        )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be above 0 and at most 1, but got {self.layer_decay}.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be from 0 to below 1, but got {self.ema_decay}.")
        if self.ema_decay is None and (self.evaluate_ema or self.save_ema):
            raise ValueError("evaluate_ema and save_ema need a moving average: set ema_decay, for example to 0.999.")


def _check_numbers(name: str, given: Any, is_right: Any, what: str) -> None:
    if given is not None and not (isinstance(given, dict) and all(is_right(value) for value in given.values())):
        raise ValueError(f"{name} must give {what} by tower, such as {{'image': 1}}, but got {given!r}.")
