"""How differently two clouds of embeddings are spread over the sphere."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive, check_same_width
from hf_contrastive.functional.exponentials import is_empty
from hf_contrastive.functional.matches import folds_of_items, item_numbers
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
    values of one temperature and one number of rows. Rows that are matched one to one bias it down as well: as a
    measure, with its floor, take [`divergence_of_halves`].

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

    from_y, from_x = _sides(x, y, temperature)
    return (from_y + from_x) / 2


class HeldOutDivergence(NamedTuple):
    """A smoothed divergence of two clouds without matched rows, its two sides, and what sampling makes of it.

    Args:
        divergence: Mean of both sides.
        x_from_y: Mean over the first cloud of the log ratio of its density to the other's: large where `x` has rows in
            places that `y` leaves empty.
        y_from_x: The same of the second cloud.
        floor: Mean of both divergences between two halves of one cloud, at the same temperature and number of rows.
    """

    divergence: Float[Tensor, ""]
    x_from_y: Float[Tensor, ""]
    y_from_x: Float[Tensor, ""]
    floor: Float[Tensor, ""]


@torch.no_grad()
def divergence_of_halves(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    temperature: float = 0.1,
    seed: int = 0,
    normalize: bool = True,
) -> HeldOutDivergence:
    """[`smoothed_divergence`] as a measure: between half of the items in one modality and the other half in the other.

    A match of a query is nearer than any other row, and at low temperatures hides how far the clouds lie apart. So the
    items are dealt to two halves, each half of one cloud is compared with the other half of the other, and both results
    are averaged. It carries no gradient.

    Source: as [`smoothed_divergence`]; halves and floor are ours.

    Args:
        x: First cloud, at least four rows.
        y: Second cloud, at least four rows; any number.
        x_ids: Item of each row of `x`. By default row i of clouds of one size is one item, and all rows of clouds of
            different sizes are different ones.
        y_ids: Item of each row of `y`.
        temperature: Width of the kernel.
        seed: Seed of the halves.
        normalize: Whether to scale rows to unit length first.
    """
    check_positive(temperature, "temperature")
    x, y = (as_embeddings(z, name, min_rows=4, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    half_x, half_y = folds_of_items(*item_numbers(x, y, x_ids, y_ids), 2, seed)
    parts = [[z[half == i] for i in (0, 1)] for z, half in ((x, half_x), (y, half_y))]
    for name, halves in zip("xy", parts, strict=True):
        if min(map(len, halves)) < 2:
            raise ValueError(f"Each half of `{name}` must have at least 2 rows, but got {[len(z) for z in halves]}.")
    (x0, x1), (y0, y1) = parts
    crossed = [_sides(x0, y1, temperature), _sides(x1, y0, temperature)]
    from_y, from_x = (torch.stack(sides).mean() for sides in zip(*crossed, strict=True))
    within = torch.stack([*_sides(x0, x1, temperature), *_sides(y0, y1, temperature)])
    return HeldOutDivergence((from_y + from_x) / 2, from_y, from_x, within.mean())


def _sides(x: Tensor, y: Tensor, temperature: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean log ratio of the own to the other density at the rows of each cloud."""
    inside = self_log_partition(x, 1 / temperature), self_log_partition(y, 1 / temperature)
    outside = log_partitions(x, y, 1 / temperature)
    from_y = log_density_ratio(inside[0], outside[0], len(x), len(y))
    from_x = log_density_ratio(inside[1], outside[1], len(y), len(x))
    return from_y.mean(), from_x.mean()
