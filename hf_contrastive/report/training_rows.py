"""What a card's table shows of the training."""

import platform
from collections.abc import Iterator, Mapping
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
    packages = (*PACKAGES, "peft") if facts.adapter else PACKAGES
    return {
        "dataset_links": [
            f"[{inline(name)}](https://huggingface.co/datasets/{page})" if page else inline(name)
            for name, page in facts.datasets.items()
        ],
        "rows": facts.rows,
        "train_rows": facts.train_rows,
        "fingerprint": facts.dataset_fingerprint,
        "dataset_license": facts.dataset_license and inline(facts.dataset_license),
        "towers": facts.towers,
        "adapter": facts.adapter,
        "model_class": facts.model_class,
        "steps": own.steps,
        "batch": ", ".join(_batch(own, args, facts)),
        "negatives": _negatives(own, args, facts, objective),
        "temperature": _temperature(own, args, objective),
        "biases": ", ".join(f"{bias:.2f}" for bias in _biases(own) or facts.biases),
        "optimizer": ", ".join(_optimizer(own, args)),
        "averaged": args.ema_decay if args.save_ema else None,
        "best_step": facts.best_step,
        "seed": own.seed,
        "data_seed": args.data_seed,
        "hardware": facts.hardware,
        "precision": _precision(args, facts),
        "seconds": own.train_seconds,
        "resumed_at": own.resumed_at,
        "versions": f"Python {platform.python_version()}, hf_contrastive {__version__}, "
        + ", ".join(f"{package} {version(package)}" for package in packages),
    }


def _batch(own: RunResult, args: "ContrastiveTrainingArguments", facts: TrainingFacts) -> Iterator[str]:
    steps, processes = args.gradient_accumulation_steps, facts.processes
    yield f"{own.batch_size * steps:,} {facts.rows} an update"
    if processes > 1:
        yield f"{own.batch_size // processes:,} on each of {processes} processes"
    if steps > 1:
        yield f"{steps} batches accumulated" + (
            " that are each other's negatives" if args.accumulate_negatives else ""
        )
    if args.encode_chunk_size:
        yield f"embedded {args.encode_chunk_size:,} at a time, with the gradient of the whole batch"


def _biases(own: RunResult) -> list[float]:
    """The bias that was measured with, or that of each pair of modalities; none where the objective reads none."""
    of_pairs = [value for key, value in own.metrics.items() if key.startswith("logit_bias/")]
    return of_pairs or [value for key, value in own.metrics.items() if key == "logit_bias"]


def _negatives(
    own: RunResult, args: "ContrastiveTrainingArguments", facts: TrainingFacts, objective: Objective
) -> str:
    if not objective.has_negatives:
        return "none, the objective compares no row with another item's"
    found = {key.removeprefix("audit/"): value for key, value in facts.negatives.items()}
    steps = args.gradient_accumulation_steps if args.accumulate_negatives else 1
    parts = [f"{found.get('negatives', own.batch_size * steps - 1):,.0f} other items per row"]
    if facts.processes > 1 and "negatives_other_processes" in found:
        parts.append(f"{found['negatives_other_processes']:,.0f} of them from other processes")
    if found.get("negatives_hard"):
        parts.append(f"and {found['negatives_hard']:,.3g} hard ones in the mean over directions")
    if queue := found.get("negatives_queue", args.queue_size):
        parts.append(f"and up to {queue:,.0f} from a queue of past batches, after {args.queue_start:.0%} of the steps")
    parts += _duplicates(found)
    if not objective.is_known:
        parts[0] += ", where the author's objective compares with them"
    return ", ".join(parts)


def _duplicates(found: Mapping[str, float]) -> Iterator[str]:
    masked, unmasked = found.get("duplicates_masked"), found.get("duplicates_unmasked")
    told = [f"{masked:.3g} known duplicates left out"] if masked else []
    if unmasked is not None:
        told.append(f"{f'{unmasked:.3g}' if unmasked else 'none'} with the same text among them")
    if told:
        yield f"in the first batches {' and '.join(told)}"


def _temperature(own: RunResult, args: "ContrastiveTrainingArguments", objective: Objective) -> str:
    if not objective.has_scale:
        return "not used by the objective"
    kind = "scheduled" if args.logit_scale_schedule else "learned" if args.learn_logit_scale else "fixed"
    pairs = {key: value for key, value in own.metrics.items() if key.startswith("logit_scale/")}
    if pairs:
        each = ", ".join(f"1 / {value:.1f} {_words(key)}" for key, value in pairs.items())
        return f"one for each pair, at the end {each}, {kind}"
    scale = own.metrics.get("logit_scale")
    return kind if scale is None else f"1 / {scale:.1f} at the end, {kind}"


def _words(key: str) -> str:
    return key.rpartition("/")[2].replace("_", " and ")


def _optimizer(own: RunResult, args: "ContrastiveTrainingArguments") -> Iterator[str]:
    yield str(getattr(args.optim, "value", args.optim))
    yield f"peak learning rate {args.learning_rate:g}"
    given: Any = args.tower_learning_rates
    rates = dict(given or {})
    rates |= {"temperature": rate} if (rate := args.logit_scale_learning_rate) and args.learn_logit_scale else {}
    if rates:
        yield "that of " + " and ".join(f"{name.replace('_', ' ')} {rate:g}" for name, rate in rates.items())
    if args.layer_decay is not None:
        yield f"times {args.layer_decay:g} for each layer down"
    yield f"weight decay {args.weight_decay:g}"
    schedule = f"{getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type)} schedule"
    warmup = args.get_warmup_steps(own.steps)
    yield f"{schedule} after {warmup:,} steps of warm-up" if warmup else schedule
    if args.max_grad_norm:
        yield f"gradients clipped to a norm of {args.max_grad_norm:g}"


def _precision(args: "ContrastiveTrainingArguments", facts: TrainingFacts) -> str:
    if args.bf16 or args.fp16:
        return f"mixed precision with {'bfloat16' if args.bf16 else 'float16'}"
    return "single precision" if facts.dtype == "float32" else f"weights in {facts.dtype}"


def inline(text: str) -> str:
    """A text that breaks neither a table nor a comment."""
    return " ".join(text.split()).replace("|", "\\|").replace("<!--", "&lt;!--")
