"""The Hölder divergence of all modalities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import PairMask, log_partition
from hf_contrastive.functional.checks import check_positive
from hf_contrastive.functional.hoelder import hoelder_of_densities, log_density
from hf_contrastive.functional.tiles import KEEP_BYTES
from hf_contrastive.hard_negatives import HardNegatives
from hf_contrastive.losses.registry import register_loss


# By (query, density): the log density of one modality at the world's rows of another, or of itself.
LogDensities = dict[tuple[str, str], Float[Tensor, "_"]]


@register_loss(
    "hoelder_divergence",
    paper="2602.09507",
    formula=r"\tfrac1S \sum_m \log \int p_m^S - \log \int \prod_m p_m",
)
@dataclass(frozen=True, kw_only=True)
class HoelderDivergence:
    r"""How differently the modalities are spread over the sphere, whatever their number, to be made small.

    Yin et al. 2026: $\frac1S \sum_m \log \int p_m^S - \log \int \prod_m p_m$ for S modalities, see
    [`~hf_contrastive.functional.hoelder.hoelder_divergence`]. It compares distributions and knows nothing of pairs, so
    add it to a loss that does, by `weighted_sum`. `uni_align` with `preset="hoelder"` minimizes an upper bound of it.

    A row is left out of its own modality's density, but its partners are in those of the others, as in
    `clip_divergence`: the loss also spreads each modality and pulls partners together, and can fall below zero.
    With `leave_one_out=False` (V-statistics) it does neither: equal clouds give zero, the minimum of two modalities.

    Every row of a modality counts, with or without partners; duplicates (`ids`) count as they are. Zero where a
    modality has too few rows for a density. The model's temperature, queued rows and hard negatives are not used.

    Args:
        t: Sharpness of the kernel, half an inverse temperature. The paper's $\tau$ is $1/\sqrt{2t}$.
        anchor: Modality on whose rows the densities are multiplied. By default each in turn, and the mean of the logs.
        leave_one_out: Whether rows are left out of their own density.
        keep_bytes: Logits to keep for the backward pass; the others are computed again there.
    """

    t: float = 2.0
    anchor: str | None = None
    leave_one_out: bool = True
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        check_positive(self.t, "t")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        pairs, modalities = batch.pairs(self.anchor), batch.modalities
        if len(enough_rows(batch, self.leave_one_out)) < len(modalities):
            return {"hoelder_divergence": zero(batch)}
        log = log_densities(batch, pairs, t=self.t, leave_one_out=self.leave_one_out, keep_bytes=self.keep_bytes)
        anchors = modalities if self.anchor is None else [self.anchor]
        products = [torch.stack([log[a, m] for m in modalities if m != a]).sum(dim=0) for a in anchors]
        return {"hoelder_divergence": hoelder_of_densities([log[m, m] for m in modalities], products)}


# The densities are of the whole world on every process, so each process's share is the world's value itself.


def enough_rows(batch: ContrastiveBatch, leave_one_out: bool) -> list[str]:
    """Modalities with enough rows in the world for a density at them."""
    return [m for m in batch.modalities if int(batch.present[m].sum()) >= (2 if leave_one_out else 1)]


def zero(batch: ContrastiveBatch) -> Float[Tensor, ""]:
    """Zero with a graph."""
    return torch.stack([x.sum() for x in batch.world.values()]).sum() * 0


def log_densities(
    batch: ContrastiveBatch, pairs: Sequence[tuple[str, str]], *, t: float, leave_one_out: bool, keep_bytes: int
) -> LogDensities:
    """Log densities of each modality at the world's rows of its own, and of a pair's modalities at each other's."""
    partitions = {}
    for m in sorted({m for pair in pairs for m in pair}):
        partitions[m, m] = batch.self_log_partition(m, scale=2 * t, false_negatives=True, keep_bytes=keep_bytes)
    for first, second in pairs:
        partitions[first, second], partitions[second, first] = _across(batch, first, second, 2 * t, keep_bytes)
    world = batch.gather_values(torch.stack(list(partitions.values()), dim=1)).unbind(dim=1)
    logs = {}
    for (query, other), partition in zip(partitions, world, strict=True):
        num_rows, mine = batch.present[other].sum(), partition[batch.present[query]]
        logs[query, other] = log_density(mine, num_rows, t, own=query == other, leave_one_out=leave_one_out)
    return logs


def _across(
    batch: ContrastiveBatch, first: str, second: str, scale: float, keep_bytes: int
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    if bool(batch.complete(first, second).all()):
        # Past embeddings are no part of today's densities.
        batch = replace(batch, queue={}, hard_negatives=HardNegatives())
        return batch.log_partitions(first, second, scale=scale, false_negatives=True, keep_bytes=keep_bytes)
    # The batch's own sums take pairs of modalities that one row has; a density is made of all rows that have it.
    at_first, at_second = (
        log_partition(
            batch.local[query],
            batch.world[other],
            scale,
            mask=PairMask(keys=batch.present[other]),
            keep_bytes=keep_bytes,
        )
        for query, other in ((first, second), (second, first))
    )
    return at_first, at_second
