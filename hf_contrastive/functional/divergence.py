"""How differently two clouds of embeddings are spread over the sphere."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive, check_same_width
from hf_contrastive.functional.partition import log_partition


def log_density_ratio(
    queries: Float[Tensor, "q d"],
    own: Float[Tensor, "n d"],
    other: Float[Tensor, "m d"],
    rows: Int[Tensor, "q"],
    scale: Float[Tensor, ""] | float,
    *,
    own_candidates: Bool[Tensor, "n"] | None = None,
    other_candidates: Bool[Tensor, "m"] | None = None,
    chunk_size: int | None = None,
) -> Float[Tensor, "q"]:
    r"""Log ratio of two smoothed densities at each query, $\log \tilde\rho_{own}(q_i) - \log \tilde\rho_{other}(q_i)$.

    Both are kernel density estimates with the kernel $e^{s\, z \cdot w}$, whose constant cancels. The query itself is
    left out of its own cloud. Positive where a query lies among its own kind, zero where both clouds are equally near,
    and zero where the query is alone in its cloud.

    Source: Cai et al. 2026, Section 4 (the density inside the divergence), https://huggingface.co/papers/2601.19597.

    Args:
        queries: Where the ratio is evaluated, rows of `own`.
        own: The cloud that the queries come from.
        other: The cloud it is compared with.
        rows: Row of `own` that each query is.
        scale: Inverse temperature $s$ of the kernel, already exponentiated.
        own_candidates: Rows of `own` that take part. By default all.
        other_candidates: Rows of `other` that take part. By default all.
        chunk_size: Queries whose logits are held at a time.
    """
    num_own, num_other = _count(own, own_candidates), _count(other, other_candidates)
    inside = log_partition(queries, own, scale, candidates=own_candidates, skip=rows, chunk_size=chunk_size)
    outside = log_partition(queries, other, scale, candidates=other_candidates, chunk_size=chunk_size)
    ratios = inside - (num_own - 1).clamp(min=1).log() - outside + num_other.clamp(min=1).log()
    # A query that is alone in its cloud has no density there to compare.
    return ratios.masked_fill(num_own < 2, 0)


def smoothed_divergence(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    temperature: float = 0.1,
    normalize: bool = True,
    chunk_size: int | None = 2048,
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
        chunk_size: Rows whose distances are held at a time.
    """
    check_positive(temperature, "temperature")
    x, y = (as_embeddings(z, name, min_rows=2, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")

    def half(own: Tensor, other: Tensor) -> Tensor:
        rows = torch.arange(len(own), device=own.device)
        return log_density_ratio(own, own, other, rows, 1 / temperature, chunk_size=chunk_size).mean()

    return (half(x, y) + half(y, x)) / 2


def _count(rows: Tensor, candidates: Tensor | None) -> Tensor:
    """Number of rows that take part, in the precision of the rows: the log of an integer would be in single."""
    return rows.new_tensor(len(rows)) if candidates is None else candidates.sum().to(rows.dtype)
