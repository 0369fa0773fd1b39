"""A regularizer towards an isotropic Gaussian, by random projections on lines."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.gaussian import characteristic_sums, epps_pulley, project, random_directions
from hf_contrastive.losses.chance import step_random
from hf_contrastive.losses.registry import register_loss


@register_loss(
    "sliced_gaussian",
    paper="2511.08544",
    formula=r"\mathrm{E}_a\, n \int \big| \mathrm{E}_i\, e^{\mathrm{i} \omega \sqrt d\, a \cdot z_i} - e^{-\omega^2 / 2} \big|^2 e^{-\omega^2 / 2}\, d\omega, \quad \text{the mean over } z \in \{x, y\}, \; a \text{ random directions}",
)
@dataclass(frozen=True, kw_only=True)
class SlicedGaussian:
    r"""Make every one-dimensional projection of each modality look like a standard normal distribution.

    Balestriero & LeCun 2025 (LeJEPA), Algorithm 1 (SIGReg): the Epps-Pulley statistic of projections on random
    directions, averaged over directions, and here over modalities. O(B slices) memory and no comparison of rows. It
    knows nothing of pairs, so add it to a loss that does, by `weighted_sum`.

    What a loss sees are unit embeddings; they are multiplied by $\sqrt d$. Projections of evenly spread ones are then
    normal in the limit of high width only: perfectly spread ones exceed the statistic of normal samples by about
    $0.15\, n / d^2$ (measured), which is little as long as $d^2$ is above n.

    The statistic has the paper's factor n, the number of the world's rows: 1.06 on average for normal samples, and
    growing with the batch for others. Directions are drawn anew at each step from `seed` and the batch's progress,
    alike on every process.

    Args:
        num_slices: Directions for each step.
        seed: Of the directions.
    """

    num_slices: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_slices < 1:
            raise ValueError(f"`num_slices` must be at least 1, but got {self.num_slices}.")

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        width = batch.world[batch.modalities[0]].shape[1]
        # Drawn on the CPU, so that they do not depend on the device.
        generator = torch.Generator().manual_seed(step_random(batch, self.seed).getrandbits(63))
        directions = math.sqrt(width) * random_directions(width, self.num_slices, generator)
        values = [self._modality(batch, m, directions) for m in batch.modalities]
        return {"sliced_gaussian": torch.stack(values).mean()}

    def _modality(self, batch: ContrastiveBatch, modality: str, directions: Float[Tensor, "d k"]) -> Float[Tensor, ""]:
        present = batch.present[modality]
        sums = characteristic_sums(project(batch.local[modality][present[batch.rows]], directions))
        # Each process sums its own rows; the statistic is of the whole world on every process, so its own share.
        sums = batch.gather_values(sums.unsqueeze(0)).sum(dim=0)
        return epps_pulley(sums, int(present.sum())).mean() if present.any() else sums.sum() * 0
