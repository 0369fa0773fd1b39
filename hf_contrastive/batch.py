"""What a loss sees: the embeddings of one step, on this process and on all of them."""

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContrastiveBatch:
    """One training step seen from one process.

    Row i of every modality is the same example. This process computed b of the world's B rows; a loss compares its own
    rows with all of them.

    Dimension key: b = rows of this process, B = rows of all processes, d = embedding width.

    Args:
        local: This process's unit-norm embeddings, by modality. Equal to `world` when there is one process.
        world: Every process's embeddings in rank order. Gradients flow back to the process that computed each row.
        present: Which rows of the world have each modality. Absent rows hold zeros and must not matter.
        logit_scale: Inverse temperature, already exponentiated.
        logit_bias: Additive bias of the logits, for sigmoid losses.
        rank: Index of this process; its rows start at `rank * b` of the world.
        progress: Fraction of all training steps that are done, for weights that change; 1 where nothing is trained.
    """

    local: dict[str, Float[Tensor, "b d"]]
    world: dict[str, Float[Tensor, "B d"]]
    present: dict[str, Bool[Tensor, "B"]]
    logit_scale: Float[Tensor, ""]
    logit_bias: Float[Tensor, ""] | None = None
    rank: int = 0
    progress: float = 1.0

    @classmethod
    def whole(
        cls,
        embeds: dict[str, Float[Tensor, "B d"]],
        logit_scale: Float[Tensor, ""],
        logit_bias: Float[Tensor, ""] | None = None,
        present: dict[str, Bool[Tensor, "B"]] | None = None,
    ) -> "ContrastiveBatch":
        """The batch of a single process that holds all rows. Without `present`, every row has every modality."""
        if present is None:
            present = {m: torch.ones(len(x), dtype=torch.bool, device=x.device) for m, x in embeds.items()}
        # `where` and not a product: an absent row may hold anything, NaN included.
        embeds = {m: torch.where(present[m].unsqueeze(1), x, torch.zeros_like(x)) for m, x in embeds.items()}
        return cls(local=embeds, world=embeds, present=present, logit_scale=logit_scale, logit_bias=logit_bias)

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, in an order that all processes share."""
        return sorted(self.world)

    def pairs(self, anchor: str | None = None) -> list[tuple[str, str]]:
        """Unordered pairs of modalities: all of them, or those of `anchor`, which then comes first."""
        if anchor is None:
            return list(combinations(self.modalities, 2))
        self.check_modality(anchor, "anchor")
        return [(anchor, m) for m in self.modalities if m != anchor]

    def check_modality(self, name: str, argument: str) -> None:
        """Raise a ValueError unless `name`, given as `argument`, is one of the modalities."""
        if name not in self.world:
            raise ValueError(f"`{argument}` must be one of the modalities {self.modalities}, but got {name!r}.")

    @property
    def positives(self) -> Int[Tensor, "b"]:
        """Row of the world that each local row is."""
        b = len(next(iter(self.local.values())))
        return torch.arange(b, device=self.logit_scale.device) + self.rank * b

    def complete(self, *modalities: str) -> Bool[Tensor, "B"]:
        """Rows of the world that have every given modality."""
        return torch.stack([self.present[m] for m in modalities]).all(dim=0)

    def mean(self, values: Float[Tensor, "b"], *modalities: str) -> Float[Tensor, ""]:
        """Share of this process in the mean of `values` over all rows of the world that have every given modality.

        Averaging the shares over processes, as DDP does with their gradients, gives that mean. It is zero where no row
        is complete.
        """
        complete = self.complete(*modalities)
        mine = complete[self.positives]
        num_processes = len(complete) / len(mine)
        return values[mine].sum() * num_processes / complete.sum().clamp(min=1)
