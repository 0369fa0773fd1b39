"""Contrastive losses, one value per query row: each query has one positive among many keys.

The caller decides how to average the rows. No function knows of modalities, batches or processes.

Dimension key: q = queries, k = keys, d = embedding width.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_contrastive.functional.partition import log_partition, map_rows


def positive_logits(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, "q"]:
    r"""Logit of each query with its own key, $s\, q_i \cdot k_{p(i)}$."""
    return scale * (queries * keys[positives]).sum(dim=1)


def info_nce(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, ""] | float,
    *,
    candidates: Bool[Tensor, "k"] | None = None,
    chunk_size: int | None = None,
) -> Float[Tensor, "q"]:
    r"""Cross-entropy of each query picking its own key, $\log \sum_j e^{s\, q_i \cdot k_j} - s\, q_i \cdot k_{p(i)}$.

    Between 0, where every query is certain of its key, and infinity; log k where all keys look alike.

    Source: van den Oord et al. 2018, Equation 4, https://huggingface.co/papers/1807.03748.

    Args:
        queries: Rows to classify.
        keys: Rows to choose from, the positives among them.
        positives: Row of `keys` that matches each query.
        scale: Inverse temperature $s$, already exponentiated.
        candidates: Keys that take part in the sum. A query whose positive is excluded gets a meaningless value.
        chunk_size: Queries whose logits are held at a time, see [`map_rows`].

    >>> import torch
    >>> info_nce(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), 0.0)
    tensor([0.6931, 0.6931])
    """
    partition = log_partition(queries, keys, scale, candidates=candidates, chunk_size=chunk_size)
    return partition - positive_logits(queries, keys, positives, scale)


def sigmoid_loss(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, ""] | float,
    bias: Float[Tensor, ""] | float,
    *,
    candidates: Bool[Tensor, "k"] | None = None,
    chunk_size: int | None = None,
) -> Float[Tensor, "q"]:
    r"""Binary cross-entropy of every pair, summed over keys, $-\sum_j \log \sigma(z_{ij} (s\, q_i \cdot k_j + b))$.

    The label $z_{ij}$ is 1 for a query and its own key and -1 for any other pair. The paper's loss is the mean of this
    over queries.

    Source: Zhai et al. 2023, Algorithm 1, https://huggingface.co/papers/2303.15343. Arguments as in [`info_nce`], and:

    Args:
        queries: Rows to classify.
        keys: Rows that each query accepts or rejects.
        positives: Row of `keys` that matches each query.
        scale: Inverse temperature $s$, already exponentiated.
        bias: Added to every logit; about $-\log k$ where a query has one positive among k keys.
        candidates: Keys that take part in the sum.
        chunk_size: Queries whose logits are held at a time.
    """

    def rows(queries: Tensor, positives: Tensor) -> Tensor:
        logits = scale * queries @ keys.T + bias
        losses = F.softplus(logits)
        if candidates is not None:
            losses = losses.masked_fill(~candidates, 0)
        # softplus(-z) = softplus(z) - z turns the one matching pair from a rejected into an accepted one.
        return losses.sum(dim=1) - logits.gather(1, positives.unsqueeze(1)).squeeze(1)

    return map_rows(rows, queries, positives, chunk_size=chunk_size)
