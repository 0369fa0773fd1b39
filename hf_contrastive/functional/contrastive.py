"""Softmax losses, one value per query row: each query has one positive among many keys.

The caller decides how to average the rows. No function knows of modalities, batches or processes.

Dimension key: q = queries, k = keys, d = embedding width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_scalar, check_same_width, working_dtype
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.partition import log_partition
from hf_contrastive.functional.products import has_fast_products
from hf_contrastive.functional.tiles import KEEP_BYTES, paired_logits


def positive_logits(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, "q"]:
    r"""Logit of each query with its own key, $s\, q_i \cdot k_{p(i)}$."""
    return paired_logits(queries, keys[positives], scale)


def info_nce(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, ""] | float,
    *,
    mask: PairMask | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> Float[Tensor, "q"]:
    r"""Cross-entropy of each query picking its own key, $\log \sum_j e^{s\, q_i \cdot k_j} - s\, q_i \cdot k_{p(i)}$.

    Between 0, where every query is certain of its key, and infinity; log k where all keys look alike.

    Source: van den Oord et al. 2018, Equation 4, https://huggingface.co/papers/1807.03748.

    Args:
        queries: Rows to classify.
        keys: Rows to choose from, the positives among them.
        positives: Row of `keys` that matches each query.
        scale: Inverse temperature $s$, already exponentiated.
        mask: Pairs to leave out of the sum. A query whose positive is left out gets a meaningless value.
        keep_bytes: Logits to keep for the backward pass, see [`log_partition`].

    >>> import torch
    >>> info_nce(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), 0.0)
    tensor([0.6931, 0.6931])
    """
    mask = PairMask(positives=positives) if mask is None else mask
    partition = log_partition(queries, keys, scale, mask=mask, keep_bytes=keep_bytes)
    return partition - positive_logits(queries, keys, positives, scale)


def mean_info_nce(
    queries: Float[Tensor, "q d"],
    keys: Float[Tensor, "k d"],
    positives: Int[Tensor, "q"],
    scale: Float[Tensor, "..."] | float,
    *,
    keep_bytes: int = KEEP_BYTES,
) -> Float[Tensor, ""]:
    """Mean of [`info_nce`] over queries.

    Where the logits exceed `keep_bytes`, it is left to `torch.nn.functional.linear_cross_entropy` if this PyTorch has it
    (2.13): with one direction and equal weights, gradients can be made with the logits of a few queries at a time, three
    products of matrices instead of four. That can be differentiated once, and by `backward` only. On a CPU whose oneDNN
    computes the products of tiles, four of those are faster than three of that function's.
    """
    dtype = working_dtype(queries, keys)
    fits = len(queries) * len(keys) * dtype.itemsize <= keep_bytes
    own = fits or not hasattr(F, "linear_cross_entropy") or torch._C._are_functorch_transforms_active()
    if own or has_fast_products(queries.device, dtype):
        return info_nce(queries, keys, positives, scale, keep_bytes=keep_bytes).mean()
    check_same_width(queries, keys, "`queries` and `keys`")
    scale = as_scalar(scale, "scale", queries.new_empty((), dtype=dtype))
    with torch.autocast(queries.device.type, enabled=False):
        value: Tensor = F.linear_cross_entropy(
            queries.to(dtype) * scale, keys.to(dtype), positives, options=torch.nn.LinearCrossEntropyOptions()
        )
    return value
