r"""What one modality feels of the other at any point of the sphere, for plots along an axis or over a grid.

Dimension key: n = rows, q = points, d = embedding width.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_paired, check_positive, check_same_width
from hf_contrastive.functional.energies import log_kernel_volume
from hf_contrastive.functional.partition import log_partition
from hf_contrastive.functional.retrieval import CHUNK_SCORES


class EffectivePotential(NamedTuple):
    r"""The potential of the first modality at each point, and what it is made of.

    Args:
        potential: $V_{1|2}$, the sum of `alignment` and `log_density`: rows gain by moving to where it is low.
        alignment: Potential of alignment over the temperature, low near the matches of nearby rows.
        log_density: Log density of the other modality: the barrier, high where its rows are.
        own_log_density: Log density of the first modality itself. Where both clouds coincide and nothing moves, this
            plus `alignment` is constant.
    """

    potential: Float[Tensor, "q"]
    alignment: Float[Tensor, "q"]
    log_density: Float[Tensor, "q"]
    own_log_density: Float[Tensor, "q"]


class GreatCircle(NamedTuple):
    """Points on the great circle through the centers of two clouds.

    Args:
        angles: Angle of each point from the first center, from -pi to pi.
        points: The points.
        angle_between: Angle of the second center.
    """

    angles: Float[Tensor, "q"]
    points: Float[Tensor, "q d"]
    angle_between: Float[Tensor, ""]


@torch.no_grad()
def effective_potential(
    points: Float[Tensor, "q d"],
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    *,
    temperature: float = 0.07,
    smoothing: float | None = None,
) -> EffectivePotential:
    r"""Effective potential of modality 1 given modality 2 at any points, $V_{1|2}(z) = U_{12}(z) / \tau + \log
    \tilde\rho_2(z)$.

    A point is not a row, so $U_{12}(z) = -z \cdot \mathrm{E}[y \mid z]$ takes the mean of matches around it, weighted by
    $e^{z \cdot x_i / h}$ (a kernel regression), and densities have the same kernel. With h at the temperature they are
    those of the loss, which sees no finer. A chunk of points goes over all rows at a time, in 16 MiB.

    Source: Cai et al. 2026, Section 4 ($V_{1|2}$; its estimate between rows is ours),
    https://huggingface.co/papers/2601.19597.

    Args:
        points: Where the potential is wanted, scaled to unit length here.
        x: Rows of modality 1.
        y: Rows of modality 2, row i the match of row i of `x`.
        temperature: $\tau$ of the loss.
        smoothing: $h$ of the kernel that averages matches and smoothes densities. By default `temperature`.
    """
    check_positive(temperature, "temperature")
    smoothing = temperature if smoothing is None else smoothing
    check_positive(smoothing, "smoothing")
    points, x, y = (as_embeddings(z, name) for z, name in ((points, "points"), (x, "x"), (y, "y")))
    check_paired(x, y, "`x` and `y`")
    check_same_width(points, x, "`points` and `x`")
    constant = math.log(len(x)) + log_kernel_volume(x.shape[1], smoothing)
    log_density, own = (log_partition(points, z, 1 / smoothing) - constant for z in (y, x))
    alignment = torch.empty_like(own)
    step = max(1, CHUNK_SCORES // len(x))
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, len(points), step):
            some = points[start : start + step]
            weights = F.softmax(some @ x.mT / smoothing, dim=1)
            alignment[start : start + step] = -(weights @ y * some).sum(dim=1) / temperature
    return EffectivePotential(alignment + log_density, alignment, log_density, own)


@torch.no_grad()
def great_circle(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, num_points: int = 181) -> GreatCircle:
    """The great circle from the direction of one center through that of the other: the gap's axis on the sphere.

    Args:
        x: First cloud, scaled to unit length here.
        y: Second cloud.
        num_points: Points on the circle, evenly spaced, both ends being the point opposite the first center.

    Raises:
        ValueError: A center is zero, or both lie on one line through the origin, so that no circle is told apart.
    """
    if num_points < 2:
        raise ValueError(f"`num_points` must be at least 2, but got {num_points}.")
    x, y = as_embeddings(x, "x"), as_embeddings(y, "y")
    check_same_width(x, y, "`x` and `y`")
    first, second = (z.mean(dim=0, dtype=torch.float64) for z in (x, y))
    # Centers and what they differ by, where they are nothing but rounding.
    small = 1e-6
    if min(float(first.norm()), float(second.norm())) < small:
        raise ValueError("The center of `x` or of `y` is the origin, which has no direction.")
    first, second = first / first.norm(), second / second.norm()
    across = second - (first @ second) * first
    if float(across.norm()) < small:
        raise ValueError("The centers of `x` and `y` lie on one line through the origin, so no one circle joins them.")
    between = torch.atan2(across.norm(), first @ second)
    across = across / across.norm()
    angles = torch.linspace(-math.pi, math.pi, num_points, dtype=torch.float64, device=x.device)
    points = angles.cos().unsqueeze(1) * first + angles.sin().unsqueeze(1) * across
    return GreatCircle(angles, points.to(x.dtype), between)
