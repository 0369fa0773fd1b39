"""What a card's table shows of the training."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hf_contrastive import __version__
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.objective import Objective
from hf_contrastive.report.result import RunResult


if TYPE_CHECKING:
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "huggingface_hub")


def training_rows(
    own: RunResult, args: "ContrastiveTrainingArguments", facts: TrainingFacts, objective: Objective
) -> dict[str, Any]:
    """Values of the template that tell how a model was trained."""
    steps, name = args.gradient_accumulation_steps, inline(facts.dataset_name)
    link = f"[{name}](https://huggingface.co/datasets/{facts.hub_dataset})" if facts.hub_dataset else name
    return {
        "dataset_link": link,
        "train_rows": facts.train_rows,
        "fingerprint": facts.dataset_fingerprint,
        "dataset_license": facts.dataset_license and inline(facts.dataset_license),
        "towers": facts.towers,
        "model_class": facts.model_class,
        "steps": own.steps,
        "batch": f"{own.batch_size * steps:,} pairs an update: {own.batch_size // facts.processes:,} on each of "
        f"{facts.processes} {'process' if facts.processes == 1 else 'processes'}, {steps} "
        f"{'batch' if steps == 1 else 'batches'} accumulated",
        "negatives": _negatives(own, facts.negatives, objective),
        "logit_scale": own.metrics["logit_scale"],
        "scale_kind": "scheduled" if args.logit_scale_schedule else "learned" if args.learn_logit_scale else "fixed",
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "schedule": f"{getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type)} schedule",
        "seed": own.seed,
        "data_seed": args.data_seed,
        "hardware": facts.hardware,
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "single precision",
        "seconds": own.train_seconds,
        "versions": f"Python {platform.python_version()}, hf_contrastive {__version__}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    }


def _negatives(own: RunResult, audit: Mapping[str, float], objective: Objective) -> str:
    if not objective.has_negatives:
        return "none, the objective compares no row with another item's"
    numbers = {key.removeprefix("audit/"): value for key, value in audit.items()}
    others = numbers.get("negatives", own.batch_size - 1)
    parts = [f"{others:,.0f} per row"]
    if "negatives_other_processes" in numbers:
        parts.append(f"{numbers['negatives_other_processes']:,.0f} of them from other processes")
    for key, what in (("negatives_hard", "hard ones"), ("negatives_queue", "from a queue of past batches")):
        if numbers.get(key):
            parts.append(f"and {numbers[key]:,.0f} {what}")
    if "duplicates_masked" in numbers:
        parts.append(f"{numbers['duplicates_masked']:.3g} known duplicates left out")
    if "duplicates_unmasked" in numbers:
        parts.append(f"{numbers['duplicates_unmasked']:.3g} with the same text kept")
    return ", ".join(parts)


def inline(text: str) -> str:
    """A text that breaks neither a table nor a comment."""
    return " ".join(text.split()).replace("|", "\\|").replace("<!--", "&lt;!--")
