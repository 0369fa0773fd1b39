"""From what an encoder returns to one vector per example.

Dimension key: b = examples, t = tokens, c = channels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def own_vector(output: Mapping[str, Any]) -> Float[Tensor, "b c"] | None:
    """The vector that an encoder has pooled itself, projected where it has a projection."""
    names = [name for name in output if name.endswith("_embeds")] + ["pooler_output"]
    for name in names:
        x = output.get(name)
        if isinstance(x, Tensor) and x.dim() > 1 and x[0].numel() == x.shape[1]:
            # Convolutional networks leave a height and width of 1.
            return x.flatten(1)
    return None


def tokens_of(output: Mapping[str, Any]) -> Float[Tensor, "b t c"] | None:
    """The last hidden states, as a sequence where they are a map of (channels, height, width)."""
    x = output.get("last_hidden_state")
    if not isinstance(x, Tensor) or x.dim() not in (3, 4):
        return None
    return x if x.dim() == 3 else x.flatten(2).transpose(1, 2)


def pool(
    pooling: str, output: Mapping[str, Any], mask: Tensor | None = None
) -> Float[Tensor, "b c"] | Float[Tensor, "b t c"]:
    """
    One vector per example, or, for learned attention, the tokens that it reads.

    Args:
        pooling: One of `POOLINGS`.
        output: What the encoder returned.
        mask: Of shape (b, t), not zero where a token is no padding. It may be on either side. By default none is.
    """
    vector, tokens = own_vector(output), tokens_of(output)
    if pooling == "pooler":
        assert vector is not None
        return vector
    assert tokens is not None
    if pooling == "attention":
        return tokens
    if pooling == "mean":
        # Sums of many tokens are beyond half precision, in range and in digits.
        exact = torch.promote_types(tokens.dtype, torch.float32)
        if mask is None:
            return tokens.mean(dim=1, dtype=exact)
        kept = (mask != 0).unsqueeze(2)
        # Not a product with zero: what stands at padding may be infinite.
        return tokens.masked_fill(~kept, 0).sum(dim=1, dtype=exact) / kept.sum(dim=1).clamp(min=1)
    if mask is None:
        return tokens[:, 0 if pooling == "cls" else -1]
    places = torch.arange(mask.shape[1], device=mask.device)
    found = torch.where(mask != 0, places, mask.shape[1] if pooling == "cls" else -1)
    at = found.amin(dim=1) if pooling == "cls" else found.amax(dim=1)
    # Not `len`, which torch.export takes for a constant.
    return tokens[torch.arange(tokens.shape[0], device=tokens.device), at.clamp(0, mask.shape[1] - 1)]


def token_mask(encoder: Any, tokens: int | torch.SymInt, mask: Tensor | None) -> Tensor | None:
    """
    The mask of an encoder's tokens, from that of its inputs, of which there may be more.

    Raises:
        ValueError: It is not clear which tokens belong to which inputs.
    """
    if mask is None or mask.dim() != 2 or mask.shape[1] == tokens:
        return mask if mask is None or mask.dim() == 2 else None
    if (own := getattr(encoder, "_get_feature_vector_attention_mask", None)) is not None:
        found: Tensor = own(tokens, mask)
        return found
    stride = -(-mask.shape[1] // tokens)
    if mask[:, ::stride].shape[1] == tokens:
        return mask[:, ::stride]
    raise ValueError(
        f"The `attention_mask` of {type(encoder).__name__} has {mask.shape[1]} entries, but it returned {tokens} tokens."
    )
