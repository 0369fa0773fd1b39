"""How differently two clouds of embeddings are spread over the sphere."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive, check_same_width
from hf_contrastive.functional.exponentials import is_empty
from hf_contrastive.functional.partition import log_partitions, self_log_partition


def log_density_ratio(
    inside: Float[Tensor, "q"],
    outside: Float[Tensor, "q"],
    num_own: Int[Tensor, ""] | int,
    num_other: Int[Tensor, ""] | int,
) -> Float[Tensor, "q"]:
    r"""Log ratio of two smoothed densities at each query, $\log \tilde\rho_{own}(q_i) - \log \tilde\rho_{other}(q_i)$.

    Both are kernel density estimates with the kernel $e^{s\, z \cdot w}$, whose constant cancels. The query itself is
    left out of its own cloud. Positive where a query lies among its own kind, zero where both clouds are equally near,
    and zero where the query is alone in its cloud.

    Source: Cai et al. 2026, Section 4 (the density inside the divergence), https://huggingface.co/papers/2601.19597.

    Args:
        inside: Log partition of each query among the other rows of its own cloud.
        outside: Log partition of each query among the rows of the other cloud.
        num_own: Rows of its own cloud, the query among them.
        num_other: Rows of the other cloud.
    """
    # In the precision of the rows: the log of an integer would be in single.
    own, other = (torch.as_tensor(n, dtype=inside.dtype, device=inside.device) for n in (num_own, num_other))
    ratios = inside - (own - 1).clamp(min=1).log() - outside + other.clamp(min=1).log()
    # A query that is alone in its cloud, or all of whose cloud a mask leaves out, has no density there to compare.
    return ratios.masked_fill((own < 2) | is_empty(inside), 0)


def smoothed_divergence(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    temperature: float = 0.1,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Smoothed symmetric divergence of two clouds, $\frac12 \mathrm{E}_x \log\frac{\tilde\rho_x}{\tilde\rho_y}
    + \frac12 \mathrm{E}_y \log\frac{\tilde\rho_y}{\tilde\rho_x}$.

    Estimates half the sum of both Kullback-Leibler divergences. Zero for equal clouds, up to sampling noise; it grows
    without bound as they part. Smoothing biases it down at high temperatures, sparsity up at low ones, so compare
    values of one temperature and one number of rows. Rows that are matched one to one bias it down as well: pass the
    first half of the items as `x` and the other half as `y` for an unbiased look.

    Source: Cai et al. 2026, Equation of $D_{sym}$ in Section 4, https://huggingface.co/papers/2601.19597.

    Args:
        x: First cloud, at least two rows.
        y: Second cloud, at least two rows.
        temperature: Width of the kernel $e^{x \cdot y / T}$.
        normalize: Whether to scale rows to unit length first, as the formula assumes.
    """
    check_positive(temperature, "temperature")
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")

    inside = self_log_partition(x, 1 / temperature), self_log_partition(y, 1 / temperature)
    outside = log_partitions(x, y, 1 / temperature)
    ratios = (
        log_density_ratio(inside[0], outside[0], len(x), len(y)),
        log_density_ratio(inside[1], outside[1], len(y), len(x)),
    )
    return (ratios[0].mean() + ratios[1].mean()) / 2
