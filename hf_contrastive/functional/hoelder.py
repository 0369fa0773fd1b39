r"""How differently several clouds of embeddings are spread: the Hölder and the Cauchy-Schwarz divergence.

Densities are kernel estimates with the kernel $e^{-t \lVert u - v \rVert^2}$ on unit rows, up to its constant, which
cancels. Everything stays in logarithms and is made of log partitions, so no matrix of pairs is kept.

Dimension key: n, m = rows, d = embedding width.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive, check_same_width
from hf_contrastive.functional.partition import log_partitions, self_log_partition


def log_density(
    partition: Float[Tensor, "n"], num_rows: Int[Tensor, ""] | int, t: float, *, own: bool, leave_one_out: bool = True
) -> Float[Tensor, "n"]:
    r"""Log of the mean kernel between each query and the rows of a cloud, $\log \frac1m \sum_j e^{-t \lVert q_i - z_j
    \rVert^2}$, from log partitions at the scale $2t$ of unit rows.

    Args:
        partition: Log partition of each query at the scale `2 * t`; if `own`, among the *other* rows.
        num_rows: Rows of the cloud.
        t: Sharpness of the kernel.
        own: Whether the queries are rows of the cloud.
        leave_one_out: Whether a query is left out of its own cloud. If not, its kernel with itself, 1, is counted.
    """
    if own and leave_one_out:
        num_rows = num_rows - 1
    if own and not leave_one_out:
        partition = torch.logaddexp(partition, partition.new_tensor(2 * t))
    # In the precision of the rows: the log of an integer would be in single.
    return partition - 2 * t - torch.as_tensor(num_rows, dtype=partition.dtype, device=partition.device).log()


def hoelder_of_densities(
    own: Sequence[Float[Tensor, "_"]], products: Sequence[Float[Tensor, "_"]]
) -> Float[Tensor, ""]:
    r"""Hölder divergence of S densities, $\frac1S \sum_m \log \int p_m^S - \log \int \prod_m p_m$, from samples.

    The first integrals are means over rows of $p_m^{S-1}$, the last one is a mean over the rows of an anchor a of
    $\prod_{n \neq a} p_n$; with several anchors its log is averaged.

    Args:
        own: For each modality, its log density at its own rows.
        products: For each anchor, the sum of the other modalities' log densities at the anchor's rows.
    """
    powers = [_log_mean_exp((len(own) - 1) * values) for values in own]
    overlaps = [_log_mean_exp(values) for values in products]
    return torch.stack(powers).mean() - torch.stack(overlaps).mean()


def cauchy_schwarz_of_densities(
    own_x: Float[Tensor, "n"], own_y: Float[Tensor, "m"], other_at_x: Float[Tensor, "n"]
) -> Float[Tensor, ""]:
    r"""Cauchy-Schwarz divergence of two densities, $-\log \frac{(\int p q)^2}{\int p^2 \int q^2}$, from samples.

    Args:
        own_x: Log density of the first cloud at its own rows.
        own_y: Log density of the second cloud at its own rows.
        other_at_x: Log density of the second cloud at the rows of the first. Read the other way its mean is the same.
    """
    return _log_mean_exp(own_x) + _log_mean_exp(own_y) - 2 * _log_mean_exp(other_at_x)


def hoelder_divergence(
    clouds: Sequence[Float[Tensor, "_ _"]],
    *,
    t: float = 2.0,
    anchor: int | None = None,
    leave_one_out: bool = True,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Hölder divergence of the distributions of S clouds, $\frac1S \sum_m \log \int p_m^S - \log \int \prod_m p_m$.

    Not negative, and zero where all distributions are equal, by Hölder's inequality; estimates scatter around that.
    With two clouds it is half of [`cauchy_schwarz_divergence`]. Leaving each row out of its own density makes the
    estimate nearly unbiased (for independent rows; matched rows bias it down, as in [`smoothed_divergence`]).
    Counting it (V-statistics) biases it down too, but two clouds then never get a negative value.

    Source: Yin et al. 2026, Section 3 (its estimator is ours), https://huggingface.co/papers/2602.09507.

    Args:
        clouds: At least two, of one width and of any numbers of rows.
        t: Sharpness of the kernel, half an inverse temperature. The paper's $\tau$ is $1/\sqrt{2t}$.
        anchor: Place of the cloud on whose rows the densities are multiplied. By default each in turn.
        leave_one_out: Whether rows are left out of their own density.
        normalize: Whether to scale rows to unit length first, as the kernel assumes.

    >>> round(float(hoelder_divergence([torch.eye(2), -torch.eye(2)], leave_one_out=False)), 4)
    4.0
    """
    check_positive(t, "t")
    if len(clouds) < 2:
        raise ValueError(f"`clouds` must hold at least two clouds to compare, but got {len(clouds)}.")
    if anchor is not None and not 0 <= anchor < len(clouds):
        raise ValueError(f"`anchor` must be the place of one of {len(clouds)} clouds, but got {anchor}.")
    fewest = 2 if leave_one_out else 1
    rows = [as_embeddings(x, f"clouds[{i}]", min_rows=fewest, normalize=normalize) for i, x in enumerate(clouds)]
    for i, x in enumerate(rows):
        check_same_width(rows[0], x, f"`clouds[0]` and `clouds[{i}]`")

    own = [log_density(self_log_partition(x, 2 * t), len(x), t, own=True, leave_one_out=leave_one_out) for x in rows]
    products = [torch.zeros_like(values) for values in own]
    for i, j in combinations(range(len(rows)), 2):
        at_i, at_j = log_partitions(rows[i], rows[j], 2 * t)
        products[i] = products[i] + log_density(at_i, len(rows[j]), t, own=False)
        products[j] = products[j] + log_density(at_j, len(rows[i]), t, own=False)
    return hoelder_of_densities(own, products if anchor is None else [products[anchor]])


def cauchy_schwarz_divergence(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    t: float = 2.0,
    leave_one_out: bool = True,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Cauchy-Schwarz divergence of the distributions of two clouds, $-\log \frac{(\int p q)^2}{\int p^2 \int q^2}$.

    Twice their [`hoelder_divergence`], whose arguments it has. With `leave_one_out=False` it is $-2 \log$ of the cosine
    between the clouds' mean embeddings in the kernel's space: never negative, zero only for equal clouds.

    Source: Yin et al. 2025 (CS-Aligner), https://huggingface.co/papers/2502.17028.
    """
    return 2 * hoelder_divergence([x, y], t=t, leave_one_out=leave_one_out, normalize=normalize)


def _log_mean_exp(values: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return values.logsumexp(dim=0) - math.log(len(values))
