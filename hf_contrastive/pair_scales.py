"""A model's temperature and bias: what they are called, and those of each pair of modalities where there is one each."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor


# What models call their log inverse temperature and their bias.
SCALE, BIAS = "logit_scale", "logit_bias"

PairValues: TypeAlias = Mapping[tuple[str, str], Tensor]


def pair_names(modalities: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of modalities, in the order of the entries of a model's scale or bias.

    >>> pair_names(["text", "audio", "image"])
    [('audio', 'image'), ('audio', 'text'), ('image', 'text')]
    """
    return list(combinations(sorted(modalities), 2))


def scale_and_bias_fields(
    modalities: Sequence[str], scale: Float[Tensor, "*P"], bias: Float[Tensor, "*Q"] | None
) -> dict[str, Any]:
    """Fields of a batch that hold a model's scale and bias, each a scalar or one number per pair of `modalities`.

    Where there is one per pair, `logit_scale` is their geometric mean and `logit_bias` their mean.

    Raises:
        ValueError: There are neither one nor as many as pairs.
    """
    scales, biases = _by_pair(modalities, scale, SCALE), _by_pair(modalities, bias, BIAS)
    return {
        SCALE: geometric_mean(scales, modalities) if scales else scale,
        BIAS: mean(biases, modalities) if biases else bias,
        "pair_scales": scales,
        "pair_biases": biases,
    }


def geometric_mean(values: PairValues, modalities: Sequence[str]) -> Float[Tensor, ""]:
    """Geometric mean of the values of all pairs among `modalities`, of all pairs with it if there is one only."""
    among = _among(values, modalities)
    return among[0] if len(among) == 1 else torch.stack(among).log().mean().exp()


def mean(values: PairValues, modalities: Sequence[str]) -> Float[Tensor, ""]:
    """Mean of the values of all pairs among `modalities`, of all pairs with it if there is one only."""
    return torch.stack(_among(values, modalities)).mean()


def _among(values: PairValues, modalities: Sequence[str]) -> list[Tensor]:
    names = set(modalities)
    if len(names) == 1:
        return [value for pair, value in values.items() if names & set(pair)]
    return [values[pair] for pair in pair_names(sorted(names))]


def _by_pair(modalities: Sequence[str], values: Tensor | None, name: str) -> PairValues:
    if values is None or values.dim() == 0:
        return {}
    pairs = pair_names(modalities)
    if values.shape != (len(pairs),):
        raise ValueError(
            f"The model's `{name}` must be one number or one for each of the {len(pairs)} pairs of the modalities "
            f"{sorted(modalities)}, in alphabetical order, but has shape {list(values.shape)}."
        )
    return dict(zip(pairs, values.unbind(), strict=True))
