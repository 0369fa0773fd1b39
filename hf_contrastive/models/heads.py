"""From the vector of a tower, or its tokens, to the joint space.

Dimension key: b = examples, t = tokens, c = channels of the tower, d = width of the joint space.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import initialization as init


class AttentionPooling(nn.Module):
    """
    One learned query that attends to the tokens of a tower.

    Args:
        features: Channels c of the tower.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_heads = features // 64 if features % 64 == 0 else 1
        self.norm = nn.LayerNorm(features)
        self.query = nn.Parameter(torch.empty(features))
        # Without bias: one of the keys adds the same to all logits.
        self.key = nn.Linear(features, features, bias=False)
        self.value = nn.Linear(features, features)

    def forward(
        self, tokens: Float[Tensor, "b t c"], mask: Shaped[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b c"]:
        tokens = self.norm(tokens)
        query = self._heads(self.query.expand(tokens.shape[0], 1, -1))
        kept = None if mask is None else (mask != 0)[:, None, None]
        found = F.scaled_dot_product_attention(
            query, self._heads(self.key(tokens)), self._heads(self.value(tokens)), attn_mask=kept
        )
        return found.transpose(1, 2).flatten(1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class TokenHead(nn.Module):
    """Learned attention, then a head."""

    def __init__(self, pooling: AttentionPooling, head: nn.Module | None) -> None:
        super().__init__()
        self.pooling = pooling
        self.head = nn.Identity() if head is None else head

    def forward(
        self, tokens: Float[Tensor, "b t c"], mask: Shaped[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b d"]:
        return self.head(self.pooling(tokens, mask))


def make_head(kind: str, features: int, width: int, *, attention: bool) -> nn.Module | None:
    """
    What follows a tower, or None where nothing does.

    Args:
        kind: `"linear"`, `"mlp"` or `"none"`.
        features: Channels of the tower.
        width: Width of the joint space.
        attention: Whether the head reads tokens, which it pools first.

    Raises:
        ValueError: There is no head, and the tower is not as wide as the joint space.
    """
    head: nn.Module | None = None
    if kind == "linear":
        head = nn.Linear(features, width, bias=False)
    elif kind == "mlp":
        head = nn.Sequential(nn.Linear(features, features), nn.GELU(), nn.Linear(features, width, bias=False))
    elif features != width:
        raise ValueError(
            f"Without a head a tower must be as wide as the joint space, {width}, but it is {features} wide."
        )
    return TokenHead(AttentionPooling(features), head) if attention else head


def init_head(module: nn.Module) -> bool:
    """Set the weights of a part of a head as `transformers` does those of CLIP; whether it is one."""
    if isinstance(module, AttentionPooling):
        init.normal_(module.query, std=module.query.numel() ** -0.5)
        return True
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            init.zeros_(module.bias)
        return True
    return False
