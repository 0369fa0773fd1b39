"""Arguments of [`ContrastiveTrainer`]."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from hf_contrastive.losses.schedule import Schedule, as_schedule
from hf_contrastive.training.inherited import choose_direction, refuse_without_use
from hf_contrastive.training.tower_args import TowerTrainingArguments


SPLITS = ("auto", "shards", "examples", "none")


# No __repr__ of its own: that of TrainingArguments hides the Hub token.
@dataclass(repr=False)
class ContrastiveTrainingArguments(TowerTrainingArguments):
    r"""
    Arguments of the [`ContrastiveTrainer`], added to those of [`TowerTrainingArguments`] and
    [`~transformers.TrainingArguments`].

    Args:
        loss (`str`, *optional*, defaults to `"clip_divergence"`):
            Name of a registered loss, see [`list_losses`].
        loss_kwargs (`dict`, *optional*):
            Options of the loss. On the command line, as JSON.
        modalities (`list[str]`, *optional*):
            Embeddings to train, for models that return more than they should. By default all.
        logit_scale (`float`, *optional*):
            Inverse temperature at the start. By default that of the model.
        logit_scale_schedule (`dict` or [`Schedule`], *optional*):
            Inverse temperature over training, instead of a learned one: the arguments of a [`Schedule`], on the command
            line as JSON. A model with one temperature per pair of modalities has all of them follow it.
        logit_bias (`float` or `"auto"`, *optional*):
            Bias at the start. `"auto"` sets a bias that is zero, so untrained, to minus the logarithm of the global
            batch, if the loss uses a bias. By default that of the model.
        learn_logit_scale (`bool`, *optional*, defaults to `True`):
            Whether the temperature is trained. If not, it stays where it starts, or follows `logit_scale_schedule`.
        logit_scale_learning_rate (`float`, *optional*):
            Peak learning rate of scale and bias, which never decay. By default `learning_rate`, as in CLIP and
            open_clip.
        max_logit_scale (`float`, *optional*, defaults to `100.0`):
            Upper bound of the inverse temperature, enforced after each optimizer step.
        false_negative_margin (`float`, *optional*):
            Pairs whose cosine exceeds that of a row's own pair by more than this are taken for false negatives and left
            out of sums over the other modality. By default none are.
        queue_size (`int`, *optional*, defaults to 0):
            Embeddings of past steps to keep as further negatives, per modality. Losses with a softmax over the other
            modality use them (`clip`, `clip_divergence`, `info_nce`, `dcl`, `dclw`, `debiased`, `hard_negative`, `nt_xent`, and
            `matryoshka` and `weighted_sum` of these); with others a queue is refused.
        queue_start (`float`, *optional*, defaults to 0.1):
            Fraction of training after which they are used: an encoder that still changes fast makes poor old negatives.
        no_duplicates (`str`, *optional*):
            Column of the training data that no two rows of a global batch share, such as the collator's `id_column` or
            the captions: duplicates would be false negatives. Map datasets only.
        encode_chunk_size (`int`, *optional*):
            Rows to embed at once. The gradient is that of the whole batch (GradCache), the memory that of a chunk. By
            default the whole batch is embedded at once.
        mini_batch_size (`int`, *optional*):
            Another name of `encode_chunk_size`.
        encode_keep_bytes (`int`, *optional*, defaults to 1 GiB):
            Activations that chunks may keep beside those of one chunk, in bytes per process. What is kept need not be
            computed twice: the more, the faster. With 0, memory does not depend on the batch, but for inputs and
            embeddings, and a step takes up to a third longer.
        accumulate_negatives (`bool`, *optional*, defaults to `False`):
            Whether the `gradient_accumulation_steps` micro-batches of an update are each other's negatives: loss and
            gradient are those of one batch of all of them. Batches that fill no whole update are left out of each epoch.
        max_nonfinite_steps (`int`, *optional*, defaults to 0):
            Steps that may be skipped in the whole run because loss, embeddings or gradient are not finite. A skipped step
            changes neither weights nor queue; one more than so many stops the run. The rows of the batch are written to
            `nonfinite_batch.json` in `output_dir`. Overflows that the scaler of fp16 handles do not count.
        log_geometry (`bool`, *optional*, defaults to `True`):
            Whether to log geometry and retrieval of the latest global batch with the training loss. Where pairs of rows
            count, 1,024 of them stand for a larger batch. [`log_geometry`] does the same for any other `Trainer`.
        negatives_audit (`bool`, *optional*, defaults to `True`):
            Whether to print and log, once, what the negatives of the first batches are worth: their number and where
            they come from, duplicates among them, temperature and bias against the batch size.
        eval_pool_size (`int`, *optional*, defaults to `1000`):
            Rows among which `eval_loss` compares each one. The loss depends on this number, and thanks to it not on the
            evaluation batch size or the number of processes.
        stream_split (`str`, *optional*, defaults to `"auto"`):
            How processes share a training stream. `shards`: each reads its own shards, which is fastest, and a pass ends
            with the shortest. `examples`: each reads all and keeps its part, so less than a batch is left. `auto`: shards
            where all get equally many, else examples. `none`: the stream is split already. Evaluation always goes by
            examples unless this is `none`.

    > [!NOTE]
    > Two defaults differ from [`~transformers.TrainingArguments`]: `remove_unused_columns` is `False`, because the
    > collator reads raw columns, and training always drops its last, incomplete batch, which would have fewer negatives.
    """

    _VALID_DICT_FIELDS = [  # noqa: RUF012
        *TowerTrainingArguments._VALID_DICT_FIELDS,
        "loss_kwargs",
        "logit_scale_schedule",
    ]

    loss: str = field(default="clip_divergence", metadata={"help": "Name of a registered loss."})
    loss_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "Options of the loss, as JSON."})
    modalities: list[str] | None = field(default=None, metadata={"help": "Embeddings to train. By default all."})
    logit_scale: float | None = field(default=None, metadata={"help": "Inverse temperature at the start."})
    logit_scale_schedule: dict[str, Any] | str | Schedule | None = field(
        default=None, metadata={"help": "Inverse temperature over training, instead of a learned one, as JSON."}
    )
    logit_bias: float | str | None = field(
        default=None, metadata={"help": "Bias at the start, or 'auto': -log(global batch) if it is untrained."}
    )
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
    no_duplicates: str | None = field(
        default=None, metadata={"help": "Column that no two rows of a global batch share."}
    )
    encode_chunk_size: int | None = field(
        default=None, metadata={"help": "Rows to embed at once; the gradient is that of the whole batch."}
    )
    mini_batch_size: int | None = field(default=None, metadata={"help": "Another name of `encode_chunk_size`."})
    encode_keep_bytes: int = field(
        default=2**30, metadata={"help": "Activations that chunks may keep beside those of one chunk, in bytes."}
    )
    accumulate_negatives: bool = field(
        default=False, metadata={"help": "Whether the micro-batches of an update are each other's negatives."}
    )
    max_nonfinite_steps: int = field(
        default=0, metadata={"help": "Steps that may be skipped because they are not finite, before the run stops."}
    )
    log_geometry: bool = field(
        default=True, metadata={"help": "Whether to log geometry and retrieval of the latest batch."}
    )
    negatives_audit: bool = field(
        default=True, metadata={"help": "Whether to print and log the number and worth of negatives at the start."}
    )
    eval_pool_size: int = field(default=1000, metadata={"help": "Rows among which eval_loss compares each one."})
    stream_split: str = field(default="auto", metadata={"help": f"How processes share a stream: {', '.join(SPLITS)}."})

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Remove columns that the model's forward does not name."}
    )

    def __post_init__(self) -> None:
        self.loss_kwargs = _options(self.loss_kwargs, "loss_kwargs", {"weight": 0.5})
        self._read_schedule()
        self.logit_bias = _bias(self.logit_bias)
        choose_direction(self)
        super().__post_init__()
        refuse_without_use(self)
        for name in ("logit_scale", "logit_scale_learning_rate", "max_logit_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, but got {value}.")
        if self.logit_scale_schedule is not None:
            self._check_schedule()
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
        self._check_chunks()
        if self.stream_split not in SPLITS:
            raise ValueError(f"stream_split must be one of {', '.join(SPLITS)}, but got {self.stream_split!r}.")
        if self.device.type == "cpu":
            # Pinned memory is for copies to an accelerator; PyTorch warns of it at every start without one.
            self.dataloader_pin_memory = False
        if self.eval_pool_size < 2:
            raise ValueError(f"eval_pool_size must be at least 2, but got {self.eval_pool_size}.")

    @property
    def order_seed(self) -> int:
        """Seed of the data's order and draws: `data_seed`, by default `seed`."""
        return self.seed if self.data_seed is None else self.data_seed

    def _read_schedule(self) -> None:
        # As a dictionary, which can be written to a file.
        given = self.logit_scale_schedule
        given = asdict(given) if isinstance(given, Schedule) else given
        self.logit_scale_schedule = _options(given, "logit_scale_schedule", {"start": 10, "end": 50})
        if self.logit_scale_schedule is not None:
            self.learn_logit_scale = False

    def _check_chunks(self) -> None:
        sizes = {size for size in (self.encode_chunk_size, self.mini_batch_size) if size is not None}
        if len(sizes) > 1:
            raise ValueError(
                "mini_batch_size is another name of encode_chunk_size, but they are "
                f"{self.mini_batch_size} and {self.encode_chunk_size}: give one of them."
            )
        self.encode_chunk_size = self.mini_batch_size = next(iter(sizes), None)
        if self.encode_chunk_size is not None and self.encode_chunk_size < 1:
            raise ValueError(f"encode_chunk_size must be at least 1 row, but got {self.encode_chunk_size}.")
        if self.encode_keep_bytes < 0:
            raise ValueError(f"encode_keep_bytes must not be negative, but got {self.encode_keep_bytes}.")

    def _check_schedule(self) -> None:
        schedule = as_schedule(self.logit_scale_schedule, "logit_scale_schedule")  # type: ignore[arg-type]  # parsed
        if self.logit_scale is not None:
            raise ValueError(
                f"logit_scale_schedule says where the scale starts, so logit_scale must be left alone, but got "
                f"{self.logit_scale}."
            )
        for name in ("start", "end"):
            if not 0 < getattr(schedule, name) <= self.max_logit_scale:
                raise ValueError(
                    f"{name} of logit_scale_schedule must be positive and at most max_logit_scale "
                    f"{self.max_logit_scale}, but got {getattr(schedule, name)}."
                )


def _bias(given: float | str | None) -> float | str | None:
    if given is None or given == "auto":
        return given
    try:
        bias = float(given)
    except ValueError:
        bias = math.nan
    if not math.isfinite(bias):
        raise ValueError(f"logit_bias must be a finite number or 'auto', but got {given!r}.")
    return bias


def _options(given: dict[str, Any] | str | None, name: str, example: dict[str, Any]) -> dict[str, Any] | None:
    if not isinstance(given, str):
        return given
    try:
        options = json.loads(given)
    except json.JSONDecodeError:
        options = None
    if not isinstance(options, dict):
        raise ValueError(f"{name} must be a JSON object such as {json.dumps(example)}, got {given!r}.")
    return options
