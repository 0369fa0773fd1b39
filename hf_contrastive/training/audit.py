"""What the negatives of a run are worth, said once at its start."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean as mean

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import rank
from hf_contrastive.functional import sigmoid_loss
from hf_contrastive.functional.chance import chance_of_sigmoid, chance_of_softmax, lowest_info_nce
from hf_contrastive.losses import ContrastiveLoss, InfoNCE, uses_bias
from hf_contrastive.training.duplicates import TEXT, TokenInputs, count_duplicates, text_hashes
from hf_contrastive.training.micro_batches import rows_of_all_processes
from hf_contrastive.training.training_args import ContrastiveTrainingArguments


logger = logging.get_logger(__name__)

# Batches to look at before the report: enough to meet duplicates, too few to cost anything.
NUM_BATCHES = 4
# A bias whose expected matches are off by more than this factor is warned of.
FAR = 10.0


def global_batch_size(args: ContrastiveTrainingArguments) -> int:
    """Rows that are each other's negatives: those of all processes and, with `accumulate_negatives`, of all batches
    of an update.
    """
    batches = args.gradient_accumulation_steps if getattr(args, "accumulate_negatives", False) else 1
    return rows_of_all_processes(args) * batches


class NegativesAudit:
    """
    Counts negatives and duplicates in the first batches of a run, then reports them once.

    All processes see the same batches, the main one prints. Numbers for logs are there once the report is made.

    Args:
        args ([`ContrastiveTrainingArguments`]):
            Arguments of the run.
        loss ([`ContrastiveLoss`]):
            Its loss.
        batch_size (`int`, *optional*):
            Rows of a batch of one process, where they are not those of `args`.
        texts (`TokenInputs`, *optional*):
            What the model calls the tokens of its texts, see [`token_inputs`].
    """

    def __init__(
        self,
        args: ContrastiveTrainingArguments,
        loss: ContrastiveLoss,
        batch_size: int | None = None,
        *,
        texts: TokenInputs = TEXT,
    ) -> None:
        self.args, self.loss, self.texts = args, loss, texts
        self.batch_size = args.per_device_train_batch_size if batch_size is None else batch_size
        self.logs: dict[str, float] = {}
        self.done = False
        self._masked: list[float] = []
        self._unmasked: list[float] = []
        self._first: dict[str, float] = {}
        self._candidates: list[int] = []
        self._hard: dict[str, int] = {}

    @torch.no_grad()
    def see(self, chunks: Sequence[Mapping[str, Tensor]], batch: ContrastiveBatch, value: Tensor) -> None:
        """Look at a batch, if it is one of the first: this process's inputs in chunks, the world's batch, its loss here."""
        if self.done:
            return
        if not self._masked:
            self._first = _measure_first(batch, value, bias=uses_bias(self.loss))
            self._candidates = _candidates(batch, self.loss)
            self._hard = {m: batch.hard_negatives.count(m) for m in batch.hard_negatives}
        masked, unmasked = count_duplicates(batch, text_hashes(chunks, self.texts))
        self._masked.append(masked)
        if unmasked is not None:
            self._unmasked.append(unmasked)
        if len(self._masked) == NUM_BATCHES:
            self.report()

    def report(self) -> None:
        """Print and log what was seen, once, if anything was."""
        if self.done or not self._masked:
            return
        self.done = True
        self.logs = self._numbers()
        if rank() == 0:
            # Which leaves a progress bar whole.
            tqdm.write("\n".join(self._lines()))
            for warning in self._warnings():
                logger.warning(warning)

    def logs_once(self, *, last: bool) -> dict[str, float]:
        """Numbers for a log, at the first call after the report and never again. If it is the `last` log, report now."""
        if last:
            self.report()
        logs, self.logs = self.logs, {}
        return logs

    def _numbers(self) -> dict[str, float]:
        first, args = self._first, self.args
        size, local, candidates = int(first["size"]), int(first["local"]), self._candidates
        chance = chance_of_sigmoid if "matches" in first else chance_of_softmax
        logs = {
            "negatives": size - 1,
            "negatives_other_processes": size - local,
            "negatives_hard": mean(candidates) - size,
            "negatives_queue": args.queue_size,
            "batch": rows_of_all_processes(args, self.batch_size) * args.gradient_accumulation_steps,
            "duplicates_masked": sum(self._masked) / len(self._masked),
            "chance_loss": mean(map(chance, candidates)),
            "first_loss": first["loss"],
            "lowest_loss": mean(lowest_info_nce(n, first["scale"]) for n in candidates),
        }
        if self._unmasked:
            logs["duplicates_unmasked"] = sum(self._unmasked) / len(self._unmasked)
        if "matches" in first:
            logs["expected_matches"] = first["matches"]
        return {f"audit/{name}": float(value) for name, value in logs.items()}

    def _lines(self) -> list[str]:
        logs = {name.removeprefix("audit/"): value for name, value in self.logs.items()}
        first, seen = self._first, len(self._masked)
        size, local, args = int(first["size"]), int(first["local"]), self.args
        queue = "none (queue_size is 0)"
        if args.queue_size:
            queue = f"up to {args.queue_size:,} past embeddings, from {args.queue_start:.0%} of training on"
        steps, batches = args.gradient_accumulation_steps, f"first {seen} batches" if seen > 1 else "first batch"
        accumulation = "1 batch per update"
        if steps > 1 and getattr(args, "accumulate_negatives", False):
            accumulation = f"{steps} batches per update, negatives of each other"
        elif steps > 1:
            accumulation = f"{steps} batches per update, which adds no negatives: set accumulate_negatives"
        unmasked = "unknown: the batches hold no ids and no tokens"
        if "duplicates_unmasked" in logs:
            unmasked = f"{logs['duplicates_unmasked']:.3g} per anchor in the {batches}"
        kind = "sigmoid" if "matches" in first else "softmax"
        hard = [f"{count:,} of {m}, for anchors of another modality" for m, count in self._hard.items()]
        cells = [
            ("negatives per anchor", f"{size - 1:,}: {local - 1:,} of its process, {size - local:,} of others"),
            *([("hard negatives", ", ".join(hard))] if hard else []),
            ("from the queue", queue),
            ("examples per update", f"{logs['batch']:,.0f} ({accumulation})"),
            ("same id, left out", f"{logs['duplicates_masked']:.3g} per anchor" if first["ids"] else "no ids"),
            ("same text, kept", unmasked),
            (
                "loss",
                f"{first['loss']:.3f} at first, {logs['chance_loss']:.3f} by chance ({kind} over {self._over()})",
            ),
            (
                "scale",
                f"{first['scale']:.2f}, a temperature of {1 / first['scale']:.3g}, {self._fate()}: perfect pairs among "
                f"orthogonal negatives have a softmax loss of {logs['lowest_loss']:.2g}",
            ),
        ]
        if "matches" in first:
            wanted = f"{first['matches']:.3g} of {size:,} expected to match, 1 does"
            cells.append(("bias", f"{first['bias']:.2f} (-log batch is {-math.log(size):.2f}): {wanted}"))
        width = max(len(name) for name, _ in cells)
        return ["Negatives audit", *(f"  {name:<{width}}  {text}" for name, text in cells)]

    def _over(self) -> str:
        """Candidates of a query, from the fewest to the most."""
        return " to ".join(f"{count:,}" for count in sorted({min(self._candidates), max(self._candidates)}))

    def _fate(self) -> str:
        if self.args.logit_scale_schedule is not None:
            return "scheduled"
        return "learned" if self.args.learn_logit_scale else "fixed"

    def _warnings(self) -> list[str]:
        found, first = [], self._first
        if self.logs.get("audit/duplicates_unmasked"):
            found.append(
                f"Rows of a batch have the same text and are each other's negatives: "
                f"{self.logs['audit/duplicates_unmasked']:.3g} per anchor. Name them in `id_column` of the collator."
            )
        if "matches" in first and not 1 / FAR <= first["matches"] <= FAR:
            size = int(first["size"])
            found.append(
                f"`logit_bias` {first['bias']:.2f} and the scale {first['scale']:.2f} expect {first['matches']:.3g} of "
                f"{size} candidates to match, and one does. An untrained bias should start at -log({size}) = "
                f'{-math.log(size):.2f}: set `logit_bias="auto"` among the training arguments.'
            )
        lowest, chance = self.logs["audit/lowest_loss"], self.logs["audit/chance_loss"]
        if self._fate() == "fixed" and "matches" not in first and lowest > chance / 2:
            found.append(
                f"The fixed scale {first['scale']:.2f} is low for {self._over()} candidates: a softmax of perfect "
                f"pairs among orthogonal negatives still has a loss of {lowest:.3g}, chance {chance:.3g}."
            )
        return found


def _candidates(batch: ContrastiveBatch, loss: object) -> list[int]:
    """How many keys a query of each direction is compared with, those of its batch and the hard negatives."""
    # Other losses have no directions, or both of each pair.
    anchor, both_ways = (loss.anchor, loss.symmetric) if isinstance(loss, InfoNCE) else (None, True)
    keys = [m for pair in batch.pairs(anchor) for m in (pair if both_ways else pair[1:])]
    return [len(batch.world[key]) + batch.hard_negatives.count(key) for key in keys]


def _measure_first(batch: ContrastiveBatch, value: Tensor, *, bias: bool) -> dict[str, float]:
    first = {
        "size": float(len(batch.world[batch.modalities[0]])),
        "local": float(len(batch.local[batch.modalities[0]])),
        "ids": float(batch.ids is not None),
        "loss": float(batch.gather_values(value.detach().reshape(1)).mean()),
        "scale": float(batch.logit_scale),
    }
    if bias and batch.logit_bias is not None:
        first |= {"bias": float(batch.logit_bias), "matches": _expected_matches(batch)}
    return first


def _expected_matches(batch: ContrastiveBatch) -> float:
    """How many keys each query is expected to match, by the sigmoids of its logits, in the mean over queries and pairs.

    One does. The difference is the gradient of the sigmoid loss with respect to the bias.
    """
    shares = []
    for query, key in batch.pairs():
        bias = batch.bias_of(query, key)
        assert bias is not None
        with torch.enable_grad():
            leaf = bias.detach().clone().requires_grad_()
            loss = sigmoid_loss(
                batch.local[query].detach(),
                batch.world[key].detach(),
                batch.positives,
                batch.scale_of(query, key).detach(),
                leaf,
                weights=batch.weights(query, key),
                mask=batch.mask(query, key),
            )
            shares.append(torch.autograd.grad(loss, leaf)[0])
    return 1 + float(batch.gather_values(torch.stack(shares).mean().reshape(1)).mean())
