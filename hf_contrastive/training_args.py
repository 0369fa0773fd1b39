"""Arguments of [`ContrastiveTrainer`]."""

import json
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments


# No __repr__ of its own: that of TrainingArguments hides the Hub token.
@dataclass(repr=False)
class ContrastiveTrainingArguments(TrainingArguments):
    r"""
    Arguments of the [`ContrastiveTrainer`], added to those of [`~transformers.TrainingArguments`].

    Args:
        loss (`str`, *optional*, defaults to `"clip_divergence"`):
            Name of a registered loss, see [`list_losses`].
        loss_kwargs (`dict`, *optional*):
            Options of the loss. On the command line, as JSON.
        modalities (`list[str]`, *optional*):
            Embeddings to train, for models that return more than they should. By default all.
        logit_scale (`float`, *optional*):
            Inverse temperature at the start. By default that of the model.
        learn_logit_scale (`bool`, *optional*, defaults to `True`):
            Whether the temperature is trained. If not, it stays where it starts.
        logit_scale_learning_rate (`float`, *optional*):
            Peak learning rate of scale and bias. By default `learning_rate`.
        max_logit_scale (`float`, *optional*, defaults to `100.0`):
            Upper bound of the inverse temperature, enforced after each optimizer step.
        false_negative_margin (`float`, *optional*):
            Pairs whose cosine exceeds that of a row's own pair by more than this are taken for false negatives and left
            out of sums over the other modality. By default none are.
        queue_size (`int`, *optional*, defaults to 0):
            Embeddings of past steps to keep as further negatives, per modality. Losses with a softmax over the other
            modality use them (`clip`, `clip_divergence`, `info_nce`, `dcl`, `debiased`, `hard_negative`, `nt_xent`, and
            `matryoshka` and `weighted_sum` of these); with others a queue is refused.
        queue_start (`float`, *optional*, defaults to 0.1):
            Fraction of training after which they are used: an encoder that still changes fast makes poor old negatives.
        max_nonfinite_steps (`int`, *optional*, defaults to 0):
            Steps that may be skipped in the whole run because loss, embeddings or gradient are not finite. A skipped step
            changes neither weights nor queue; the next one stops the run. The rows of the batch are written to
            `nonfinite_batch.json` in `output_dir`. Overflows that the scaler of fp16 handles do not count.
        log_geometry (`bool`, *optional*, defaults to `True`):
            Whether to log geometry and retrieval of the latest global batch with the training loss.
        eval_pool_size (`int`, *optional*, defaults to `1000`):
            Rows among which `eval_loss` compares each one. The loss depends on this number, and thanks to it not on the
            evaluation batch size or the number of processes.

    > [!NOTE]
    > Two defaults differ from [`~transformers.TrainingArguments`]: `remove_unused_columns` is `False`, because the
    > collator reads raw columns, and training always drops its last, incomplete batch, which would have fewer negatives.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_kwargs"]  # noqa: RUF012

    loss: str = field(default="clip_divergence", metadata={"help": "Name of a registered loss."})
    loss_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "Options of the loss, as JSON."})
    modalities: list[str] | None = field(default=None, metadata={"help": "Embeddings to train. By default all."})
    logit_scale: float | None = field(default=None, metadata={"help": "Inverse temperature at the start."})
    learn_logit_scale: bool = field(default=True, metadata={"help": "Whether the temperature is trained."})
    logit_scale_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of scale and bias. By default `learning_rate`."}
    )
    max_logit_scale: float = field(default=100.0, metadata={"help": "Upper bound of the inverse temperature."})
    false_negative_margin: float | None = field(
        default=None, metadata={"help": "Cosine above a row's own pair from which another counts as false negative."}
    )
    queue_size: int = field(default=0, metadata={"help": "Embeddings of past steps to keep as negatives."})
    queue_start: float = field(default=0.1, metadata={"help": "Fraction of training after which they are used."})
    max_nonfinite_steps: int = field(
        default=0, metadata={"help": "Steps that may be skipped because they are not finite, before the run stops."}
    )
    log_geometry: bool = field(
        default=True, metadata={"help": "Whether to log geometry and retrieval of the latest batch."}
    )
    eval_pool_size: int = field(default=1000, metadata={"help": "Rows among which eval_loss compares each one."})

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Remove columns that the model's forward does not name."}
    )

    def __post_init__(self) -> None:
        self.loss_kwargs = _options(self.loss_kwargs)
        super().__post_init__()
        for name in ("logit_scale", "logit_scale_learning_rate", "max_logit_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, but got {value}.")
        if self.logit_scale is not None and self.logit_scale > self.max_logit_scale:
            raise ValueError(
                f"logit_scale must not be above max_logit_scale, but got {self.logit_scale} and {self.max_logit_scale}."
            )
        if self.false_negative_margin is not None and not 0 <= self.false_negative_margin < float("inf"):
            raise ValueError(
                f"false_negative_margin must be finite and not negative, but got {self.false_negative_margin}: below "
                "zero it would take rows that are farther than the own pair."
            )
        if self.queue_size < 0:
            raise ValueError(f"queue_size must not be negative, but got {self.queue_size}.")
        if self.max_nonfinite_steps < 0:
            raise ValueError(f"max_nonfinite_steps must not be negative, but got {self.max_nonfinite_steps}.")
        if not 0 <= self.queue_start < 1:
            raise ValueError(f"queue_start is a fraction of training, from 0 to below 1, but got {self.queue_start}.")
        if self.device.type == "cpu":
            # Pinned memory is for copies to an accelerator; PyTorch warns of it at every start without one.
            self.dataloader_pin_memory = False
        if self.eval_pool_size < 2:
            raise ValueError(f"eval_pool_size must be at least 2, but got {self.eval_pool_size}.")


def _options(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    if not isinstance(given, str):
        return given
    try:
        options = json.loads(given)
    except json.JSONDecodeError:
        options = None
    if not isinstance(options, dict):
        raise ValueError(f'loss_kwargs must be a JSON object such as {{"weight": 0.5}}, got {given!r}.')
    return options
