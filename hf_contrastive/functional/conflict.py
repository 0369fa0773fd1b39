"""Where the objectives of several modalities pull against each other.

Dimension key: n = rows, d = embedding width.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_paired, check_positive
from hf_contrastive.functional.partition import log_partition


class Conflict(NamedTuple):
    r"""Conflicts at the rows of one modality, the anchor, in InfoNCE against each of the others.

    Args:
        zeta: Cosine between attraction and repulsion at each row: at 1 repulsion points where attraction does, and
            cancels it. Not a number where the positives themselves cancel.
        chi: Share of attraction that is lost because the row's positives point different ways, in [0, 1): 0 if they are
            collinear, always so with two modalities.
        chi_limit: What `chi` rises to with infinitely many modalities whose positives have the mean cosine c of these,
            $1 - \sqrt c$; its reference where there are two or more others. For two modalities 0.
    """

    zeta: Float[Tensor, "n"]
    chi: Float[Tensor, "n"]
    chi_limit: Float[Tensor, ""]


def expected_chi(cosine: float, num_modalities: int) -> float:
    r"""The `chi` of M modalities whose positives all have one cosine c, with equal weights: $1 - \sqrt{(1 + (M - 2) c) /
    (M - 1)}$.

    Args:
        cosine: Cosine between any two of a row's positives.
        num_modalities: M, the anchor included.

    >>> [round(expected_chi(0.6, m), 3) for m in (2, 3, 4, 8, 16)]
    [0.0, 0.106, 0.144, 0.189, 0.208]
    """
    others = num_modalities - 1
    if others < 1:
        raise ValueError(f"`num_modalities` must be at least 2, but got {num_modalities}.")
    if not -1 / max(others - 1, 1) <= cosine <= 1:
        raise ValueError(f"{others} unit vectors cannot have the one `cosine` {cosine} with each other.")
    return 1 - math.sqrt(max((1 + (others - 1) * cosine) / others, 0.0))


@torch.no_grad()
def multimodal_conflict(
    clouds: Sequence[Float[Tensor, "n d"]],
    *,
    anchor: int = 0,
    weights: Sequence[float] | None = None,
    temperature: float = 0.07,
) -> Conflict:
    r"""Conflict of attraction with repulsion ($\zeta$), and among attractions ($\chi$), at each row of the anchor.

    With unit rows, softmax $p^{an}_{ik}$ of row i over the rows of modality n, and weights $w_n$, attraction is
    $V = \sum_n w_n z^n_i$ and repulsion $\Phi = \sum_n w_n \sum_k p^{an}_{ik} z^n_k$, so that the loss has the gradient
    $(\Phi - V) / \tau$. Then $\zeta = \cos(V, \Phi)$ and $\chi = 1 - \lVert V \rVert / \sum_n w_n$.

    Chi grows with the number of modalities unless positives coincide. Zeta does so only where what is left of the rows
    has mean zero in every modality; a gap lowers it. What zeta is by chance says [`pairing_control`].

    Source: Yin et al. 2026 ($\zeta$; the form of $\chi$ is ours), https://huggingface.co/papers/2602.09507.

    Args:
        clouds: At least two modalities, row i of each the same item; scaled to unit length here.
        anchor: Place of the modality at whose rows conflicts are measured.
        weights: Weight of each *other* modality, in order. By default 1.
        temperature: $\tau$.

    >>> x = torch.eye(3)
    >>> multimodal_conflict([x, x, x]).chi
    tensor([0., 0., 0.], dtype=torch.float64)
    """
    check_positive(temperature, "temperature")
    if len(clouds) < 2:
        raise ValueError(f"`clouds` must hold at least two modalities, but got {len(clouds)}.")
    if not 0 <= anchor < len(clouds):
        raise ValueError(f"`anchor` must be the place of one of {len(clouds)} modalities, but got {anchor}.")
    rows = [as_embeddings(z, f"clouds[{i}]").double() for i, z in enumerate(clouds)]
    for i, z in enumerate(rows):
        check_paired(rows[0], z, f"`clouds[0]` and `clouds[{i}]`")
    query = rows.pop(anchor)
    weights = [1.0] * len(rows) if weights is None else weights
    if len(weights) != len(rows):
        raise ValueError(f"`weights` must hold one number per other modality, {len(rows)}, but got {len(weights)}.")
    for weight in weights:
        check_positive(weight, "weights")
    attraction, repulsion = torch.zeros_like(query), torch.zeros_like(query)
    for weight, z in zip(weights, rows, strict=True):
        attraction.add_(z, alpha=weight)
        repulsion.add_(_softmax_mean(query, z, temperature), alpha=weight)
    lengths = attraction.norm(dim=1)
    zeta = (attraction * repulsion).sum(dim=1) / (lengths * repulsion.norm(dim=1))
    chi = (1 - lengths / sum(weights)).clamp(min=0)
    return Conflict(zeta.clamp(-1, 1), chi, _chi_limit(rows))


def _softmax_mean(queries: Tensor, keys: Tensor, temperature: float) -> Float[Tensor, "n d"]:
    """Mean of the keys under each query's softmax: the gradient of the log partition, which is made over tiles."""
    with torch.enable_grad(), torch.autocast(queries.device.type, enabled=False):
        queries = queries.detach().requires_grad_()
        sums = log_partition(queries, keys.detach(), 1 / temperature, keep_bytes=0).sum()
    return torch.autograd.grad(sums, queries)[0] * temperature


def _chi_limit(positives: Sequence[Float[Tensor, "n d"]]) -> Float[Tensor, ""]:
    others = len(positives)
    if others == 1:
        return positives[0].new_zeros(())
    # The squared length of the sum of m unit vectors is m + m (m - 1) c.
    squared = sum(positives[1:], positives[0]).square().sum(dim=1).mean()
    return 1 - ((squared / others - 1) / (others - 1)).clamp(min=0).sqrt()
