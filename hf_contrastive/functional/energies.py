r"""The energies that contrastive losses become with infinitely many rows, estimated from clouds.

With the kernel $e^{z \cdot w / \tau}$ and its volume V over the sphere, the smoothed density of a cloud at z is the mean
kernel between z and its rows over V. Everything goes over tiles and carries no gradient. All pairs are compared; of more
rows than can be, [`block_estimate`] tells the energies at a smaller number.

Dimension key: n, m = rows, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import check_positive
from hf_contrastive.functional.geometry import uniformity_floor
from hf_contrastive.functional.matches import Matches
from hf_contrastive.functional.partition import log_partitions, self_log_partition


def log_sphere_area(d: int) -> float:
    """Log of the area of the unit sphere in d dimensions: the entropy of evenly spread rows, and the largest there is.

    >>> round(log_sphere_area(3), 4) == round(math.log(4 * math.pi), 4)
    True
    """
    return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)


def log_kernel_volume(d: int, temperature: float) -> float:
    r"""Log of the kernel's volume, $\log \int_{S^{d-1}} e^{z \cdot w / \tau}\, dw = \log |S^{d-1}| + \log {}_0F_1(; d/2;
    1/(4 \tau^2))$, the same at every z.

    Source: Cai et al. 2026, Assumption 2.1 (that it is constant), https://huggingface.co/papers/2601.19597.

    >>> round(log_kernel_volume(3, 1.0), 4) == round(math.log(4 * math.pi * math.sinh(1)), 4)
    True
    """
    check_positive(temperature, "temperature")
    return log_sphere_area(d) + uniformity_floor(d, t=1 / (2 * temperature)) + 1 / temperature


class Energies(NamedTuple):
    r"""The energy of two clouds and what it is made of, in nats.

    Args:
        energy: The symmetric energy, `alignment` minus the mean of both cross-entropies: the CLIP loss at this
            temperature, less log(n V) for n pairs.
        alignment: Mean potential of alignment over the temperature, $-\mathrm{E}\, x \cdot y / \tau$ over matches.
        cross_entropy_x: Of the rows of `x` under the density of `y`: large where the other modality is rare.
        cross_entropy_y: Of the rows of `y` under the density of `x`.
        entropy_x: Entropy of `x`, each row left out of its own density.
        entropy_y: Entropy of `y`.
        free_energy_x: `alignment` minus the entropy of `x`: what one modality alone would minimize.
        free_energy_y: As much for `y`.
        divergence: By how much both cross-entropies exceed the entropies on average, the [`smoothed_divergence`]: a gap
            lowers the energy by it.
        reference: Energy and free energy of coinciding matches on evenly spread clouds. Not a lower bound: clouds apart
            can have less.
        entropy_ceiling: Entropy of evenly spread rows, the largest.
    """

    energy: Float[Tensor, ""]
    alignment: Float[Tensor, ""]
    cross_entropy_x: Float[Tensor, ""]
    cross_entropy_y: Float[Tensor, ""]
    entropy_x: Float[Tensor, ""]
    entropy_y: Float[Tensor, ""]
    free_energy_x: Float[Tensor, ""]
    free_energy_y: Float[Tensor, ""]
    divergence: Float[Tensor, ""]
    reference: float
    entropy_ceiling: float


@torch.no_grad()
def population_energies(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    temperature: float = 0.07,
) -> Energies:
    r"""Energies of two clouds of unit rows, $J^{Sym} = \frac1\tau \mathrm{E} U - \frac12 H^\times(q_x, \tilde\rho_y) -
    \frac12 H^\times(q_y, \tilde\rho_x)$ and its parts.

    Cross-entropies count the matched row, as the loss does, so that matches bias them, and `divergence`, down. Values of
    different widths do not compare.

    Source: Cai et al. 2026, Sections 3 and 4, https://huggingface.co/papers/2601.19597.

    Args:
        x: First cloud, scaled to unit length here.
        y: Second cloud; with ids, any number of rows.
        x_ids: Item of each row of `x`. By default row i matches row i.
        y_ids: Item of each row of `y`. The potential of a row is the mean over its matches.
        temperature: $\tau$.

    Raises:
        ValueError: A cloud has fewer than two rows, ids are wrong (as in [`cosine_statistics`]), or a row has no match.
    """
    matches = Matches(x, y, x_ids, y_ids)
    for name, z in (("x", x), ("y", y)):
        if len(z) < 2:
            raise ValueError(f"`{name}` must have at least 2 rows to have an entropy, but got shape {list(z.shape)}.")
    volume = log_kernel_volume(x.shape[1], temperature)
    x, y, scale = matches.x, matches.y, 1 / temperature
    alignment = torch.stack([u.mean() for u in alignment_potentials(matches)]).mean() * scale
    at_x, at_y = (
        -(sums.double().mean() - math.log(count) - volume)
        for sums, count in zip(log_partitions(x, y, scale), (len(y), len(x)), strict=True)
    )
    own_x, own_y = (-(self_log_partition(z, scale).double().mean() - math.log(len(z) - 1) - volume) for z in (x, y))
    return Energies(
        energy=alignment - (at_x + at_y) / 2,
        alignment=alignment,
        cross_entropy_x=at_x,
        cross_entropy_y=at_y,
        entropy_x=own_x,
        entropy_y=own_y,
        free_energy_x=alignment - own_x,
        free_energy_y=alignment - own_y,
        divergence=(at_x - own_x + at_y - own_y) / 2,
        reference=-scale - log_sphere_area(x.shape[1]),
        entropy_ceiling=log_sphere_area(x.shape[1]),
    )


def alignment_potentials(matches: Matches) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
    r"""Potential of alignment of each row of both clouds, $U(z) = -\mathrm{E}[z \cdot w \mid z]$ over its matches w.

    Raises:
        ValueError: A row has no match.
    """
    cosines = matches.matched()
    potentials = []
    for name, places, rows in (("x", matches.rows, matches.x), ("y", matches.columns, matches.y)):
        sums, counts = cosines.new_zeros(2, len(rows)).index_add_(
            1, places, torch.stack([cosines, torch.ones_like(cosines)])
        )
        if (alone := counts == 0).any():
            raise ValueError(f"Every row needs a match, but row {int(alone.nonzero()[0])} of `{name}` has none.")
        potentials.append(-sums / counts)
    return potentials[0], potentials[1]
