"""What the trainer logs: of a training batch, and of all embeddings of an evaluation."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.losses import ContrastiveLoss, uses_bias
from hf_contrastive.metrics import full_geometry_report, geometry_report, retrieval_report


# Rows of a logged batch that all its rows are compared with: more would be seconds on a CPU, and no surer.
LOGGED_ROWS = 1024


@torch.no_grad()
def describe(batch: ContrastiveBatch, *, geometry: bool = True) -> dict[str, float]:
    """Temperature of a batch, and geometry and retrieval of its complete rows, the same on every process.

    Each process has the world's batch and computes this for itself: what callbacks read in logs must not differ between
    processes, and those that did not compute would wait for the one that does.
    """
    logs = _scale_and_bias(batch)
    complete = batch.complete(*batch.modalities)
    if geometry and int(complete.sum()) > 1:
        embeds = {m: x.detach()[complete] for m, x in batch.world.items()}
        ids = None if batch.ids is None else batch.ids[complete]
        logs |= geometry_logs(embeds, ids)
    return logs


def geometry_logs(embeds: Mapping[str, Tensor], ids: Tensor | None = None) -> dict[str, float]:
    """Geometry and retrieval of a batch of at least two rows, by a sample where it is large."""
    geometry = geometry_report(embeds, ids=ids, max_rows=LOGGED_ROWS)
    return geometry | retrieval_report(embeds, ids=ids, ks=(1,), median=False, max_queries=LOGGED_ROWS)


def _scale_and_bias(batch: ContrastiveBatch) -> dict[str, float]:
    """Scale and bias of all pairs of modalities, and of each where they differ."""
    logs = {"logit_scale": float(batch.logit_scale)}
    logs |= {f"logit_scale/{'_'.join(pair)}": float(value) for pair, value in batch.pair_scales.items()}
    if batch.logit_bias is not None:
        logs["logit_bias"] = float(batch.logit_bias)
    return logs | {f"logit_bias/{'_'.join(pair)}": float(value) for pair, value in batch.pair_biases.items()}


@torch.no_grad()
def measure(
    loss: ContrastiveLoss, output: EncoderOutput, *, pool_size: int, ids: Tensor | None = None
) -> dict[str, float]:
    """
    Loss, geometry and retrieval of an evaluation set.

    Args:
        loss (`ContrastiveLoss`):
            The loss, computed in pools of equal size, whatever the batch size or the number of processes.
        output (`EncoderOutput`):
            Embeddings of all rows, with scale and bias.
        pool_size (`int`):
            Rows among which the loss compares each one, about.
        ids (`torch.Tensor`, *optional*):
            What each row shows. Rows of one id are no negatives to the loss, and matches of each other in retrieval.
    """
    num_rows = len(next(iter(output.embeds.values())))
    # Parts whose sizes differ by one at most.
    pools = torch.arange(num_rows).tensor_split(max(1, round(num_rows / pool_size)))
    terms: dict[str, list[Tensor]] = defaultdict(list)
    for rows in pools:
        part = {m: x[rows] for m, x in output.embeds.items()}
        batch = ContrastiveBatch.whole(
            part, output.logit_scale, output.logit_bias, ids=None if ids is None else ids[rows]
        )
        for name, value in loss(batch).items():
            terms[name].append(value)
    losses = {f"loss/{name}": float(torch.stack(values).mean()) for name, values in terms.items()}
    scalars = _scale_and_bias(batch)
    if not uses_bias(loss):
        scalars = {name: value for name, value in scalars.items() if not name.startswith("logit_bias")}
    metrics = {"loss": sum(losses.values()), **losses, **scalars}
    if num_rows > 1:
        metrics |= full_geometry_report(output.embeds, ids=ids)
    return metrics | retrieval_report(output.embeds, ids=ids, detailed=True)
