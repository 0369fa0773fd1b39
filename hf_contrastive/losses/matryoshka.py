"""Any loss over several widths of the embeddings at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch, QueueRows
from hf_contrastive.functional.checks import working_dtype
from hf_contrastive.losses.registry import ContrastiveLoss, read_loss, register_loss, uses_bias


# Where the default stops halving.
NARROWEST = 8


@register_loss(
    "matryoshka",
    paper="2205.13147",
    formula=r"\sum_k w_k\, L(x_{1:k}, y_{1:k}), \quad \text{prefixes scaled to unit length}",
)
@dataclass(frozen=True, kw_only=True)
class Matryoshka:
    """Train the first columns of the embeddings to be embeddings themselves, so that users may cut them.

    Kusupati et al. 2022, Equation 1: the weighted sum of a loss over prefixes of the embeddings. Each prefix is scaled
    to unit length again. Terms are named `<term>_<width>`, weights in.

    ```yaml
    loss: matryoshka
    loss_kwargs:
      loss: {name: clip_divergence, options: {weight: 0.25}}
      widths: [64, 128, 256, 512]
    ```

    Include the full width, or the last columns learn nothing. All widths share the model's temperature and cost as much
    as so many losses.

    Args:
        loss: A loss, or a mapping with its `name` and `options`.
        widths: How many columns to keep. By default all, half, a quarter and so on, down to 8.
        weights: What each width counts. By default 1, as in the paper.
    """

    loss: ContrastiveLoss | Mapping[str, Any] = field(default_factory=lambda: {"name": "clip"})
    widths: Sequence[int] | None = None
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        # Built once, here, for the errors of a wrong name or option.
        object.__setattr__(self, "_built", read_loss(self.loss, "loss"))
        widths = [1] if self.widths is None else list(self.widths)
        if not widths or min(widths) < 1 or len(set(widths)) < len(widths):
            raise ValueError(f"`widths` must be distinct and at least 1 each, but got {widths}.")
        if self.weights is not None and len(self.weights) != len(self.widths or ()):
            raise ValueError(
                f"`weights` must hold one number for each of `widths`, but got {list(self.weights)} for "
                f"{None if self.widths is None else list(self.widths)}."
            )

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        built: ContrastiveLoss = self._built  # type: ignore[attr-defined]
        full = next(iter(batch.world.values())).shape[1]
        widths = _halves(full) if self.widths is None else self.widths
        if max(widths) > full:
            raise ValueError(
                f"`widths` must not exceed the embeddings' width of {full}, but got {list(widths)}. Drop wider ones."
            )
        weights = [1.0] * len(widths) if self.weights is None else self.weights
        return {
            f"{name}_{width}": weight * value
            for width, weight in zip(widths, weights, strict=True)
            for name, value in built(cut(batch, width)).items()
        }

    @property
    def inner_losses(self) -> tuple[ContrastiveLoss, ...]:
        """The loss that each width has."""
        return (self._built,)  # type: ignore[attr-defined]

    @property
    def uses_bias(self) -> bool:
        """Whether the loss of the prefixes reads the model's bias."""
        return uses_bias(self._built)  # type: ignore[attr-defined]


def cut(batch: ContrastiveBatch, width: int) -> ContrastiveBatch:
    """The batch with the first `width` columns of every embedding, scaled to unit length; absent rows stay zeros."""
    world = {m: _prefix(x, width) for m, x in batch.world.items()}
    # With one process local rows are the world's, and stay the same tensors.
    local = world if batch.gather is None else {m: _prefix(x, width) for m, x in batch.local.items()}
    queue = batch.queue if isinstance(batch.queue, QueueRows) else QueueRows(batch.queue)
    return replace(
        batch,
        local=local,
        world=world,
        queue=queue.map(lambda x: _prefix(x, width)),
        hard_negatives=batch.hard_negatives.map(lambda x: _prefix(x, width)),
    )


def _prefix(x: Float[Tensor, "n d"], width: int) -> Float[Tensor, "n w"]:
    return F.normalize(x[:, :width].to(working_dtype(x)), dim=1)


def _halves(full: int) -> list[int]:
    widths = [full]
    while widths[-1] // 2 >= NARROWEST:
        widths.append(widths[-1] // 2)
    return widths
