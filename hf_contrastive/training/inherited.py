"""What the Trainer brings that contrastive training has no use for: refused, for nothing would follow it."""

import re
from collections.abc import Mapping
from typing import Any

from transformers import TrainingArguments


# By argument: what it must be left at, and why. An empty one and 0 ask for nothing either.
NO_USE: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "a contrastive loss has no labels to smooth"),
    "label_names": (None, "batches have no labels; `id_column` of the collator tells which rows show the same"),
    "include_for_metrics": ([], "`compute_metrics` gets embeddings and row numbers"),
    "batch_eval_metrics": (False, "`compute_metrics` gets the embeddings of all rows, once"),
    "neftune_noise_alpha": (None, "several towers have no one input embedding to add noise to"),
    "eval_do_concat_batches": (True, "`predictions` are one array of embeddings per modality"),
}


def refuse_without_use(args: TrainingArguments) -> None:
    """Raise a ValueError if arguments of [`~transformers.TrainingArguments`] ask for what the trainer would not do."""
    for name, (default, reason) in NO_USE.items():
        given = getattr(args, name)
        if not given and not default:
            setattr(args, name, default)
        elif given != default:
            raise ValueError(f"{name} must be left at {default!r}, but got {given!r}: {reason}.")
    if args.train_sampling_strategy == "batch_rebalance":
        raise ValueError(
            "train_sampling_strategy must not be 'batch_rebalance', whose batches have different numbers of rows: each "
            "row would have another number of negatives. Take 'group_by_length', 'sequential' or 'random'."
        )


def refuse_other_training(kwargs: Mapping[str, Any]) -> None:
    """Raise a ValueError if arguments of [`~transformers.Trainer`] ask for another way of training."""
    if kwargs.get("model_init") is not None:
        raise ValueError(
            "`model_init` would make a model after the trainer has set temperature, frozen towers and adapters, and a loss "
            "that a search chooses would not be taken. Make a model and a trainer of its own for each trial."
        )
    if kwargs.get("compute_loss_func") is not None:
        raise ValueError(
            "`compute_loss_func` sees the outputs of one process alone. Give `loss` a function of a `ContrastiveBatch` "
            "that returns its terms."
        )


def choose_direction(args: TrainingArguments) -> None:
    """Set `greater_is_better` where it is not, to what the name of the metric for the best model says."""
    if args.metric_for_best_model is not None and args.greater_is_better is None:
        # Where the name says nothing, the Trainer chooses.
        args.greater_is_better = is_greater_better(args.metric_for_best_model)


def is_greater_better(metric: str) -> bool | None:
    """
    Whether more of a metric is better, None where the trainer has no metric of that name.

    Args:
        metric (`str`):
            Name of a metric of an evaluation, with or without `eval_`.

    Raises:
        ValueError: It is one of geometry, of which neither less nor more is better in itself.

    >>> is_greater_better("eval_loss/clip"), is_greater_better("retrieval/text_to_image_recall@1")
    (False, True)
    """
    if "geometry/" in metric:
        raise ValueError(
            f"metric_for_best_model is {metric!r}, of which neither less nor more is better in itself: set "
            "greater_is_better."
        )
    if re.search(r"(^|_)loss(/|$)", metric):
        return False
    return not metric.endswith("_rank") if "retrieval/" in metric else None
