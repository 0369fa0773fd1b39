"""A linear head on frozen embeddings: what a loss would do to the geometry, in seconds instead of a training run."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses import ContrastiveLoss
from hf_contrastive.losses.registry import total


BATCH_SIZE = 512


def train_heads(
    embeds: Mapping[str, Float[Tensor, "n d"]],
    loss: ContrastiveLoss,
    *,
    scale: float,
    ids: Int[Tensor, "n"] | None = None,
    steps: int,
    learning_rate: float = 1e-3,
    decay: float = 0.1,
    seed: int = 0,
) -> dict[str, nn.Module]:
    """
    One linear map with a bias per modality that minimizes a loss of frozen embeddings, at a fixed temperature.

    Maps begin as the identity and are pulled back to it, so that few steps on few rows change little but what the loss
    asks for.

    Args:
        embeds (`dict[str, Tensor]`):
            Embeddings by modality, which are scaled to unit length.
        loss ([`ContrastiveLoss`]):
            What to minimize.
        scale (`float`):
            Inverse temperature.
        ids (`Tensor`, *optional*):
            What each row shows.
        steps (`int`):
            Steps of AdamW, each on at most 512 rows.
        learning_rate (`float`, *optional*, defaults to 1e-3):
            Its learning rate, which falls linearly to zero.
        decay (`float`, *optional*, defaults to 0.1):
            Weight decay toward the identity.
        seed (`int`, *optional*, defaults to 0):
            Seed of the batches.
    """
    rows = {m: F.normalize(x.float(), dim=1) for m, x in embeds.items()}
    number, width = next(iter(rows.values())).shape
    heads: dict[str, nn.Module] = {m: _Residual(width) for m in rows}
    parameters = [weight for head in heads.values() for weight in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, total_iters=steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.randperm(number, generator=generator)[:BATCH_SIZE]
            batch = ContrastiveBatch.whole(
                {m: F.normalize(heads[m](x[chosen]), dim=1) for m, x in rows.items()},
                torch.tensor(scale),
                ids=None if ids is None else ids[chosen],
            )
            optimizer.zero_grad()
            torch.autograd.backward(total(loss(batch)))
            optimizer.step()
            schedule.step()
    return {m: head.requires_grad_(False) for m, head in heads.items()}


class _Residual(nn.Module):
    """The identity plus a linear map that begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(width, width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + F.linear(x, self.weight, self.bias)


def apply_heads(
    heads: Mapping[str, nn.Module], embeds: Mapping[str, Float[Tensor, "n d"]]
) -> dict[str, Float[Tensor, "n d"]]:
    """Unit rows of every modality after its head."""
    return {m: F.normalize(heads[m](F.normalize(x.float(), dim=1)), dim=1) for m, x in embeds.items()}
