"""A model as what other formats see of it: encoders, poolings, heads, a temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from hf_contrastive.export.errors import InexpressibleError
from hf_contrastive.export.ways import told
from hf_contrastive.models.architectures import architecture_of
from hf_contrastive.models.processor_parts import kind_of
from hf_contrastive.pair_scales import BIAS, SCALE, pair_names


@dataclass(frozen=True)
class Part:
    """One modality of a [`MultiEncoder`].

    Args:
        modality: Its name.
        kind: What it reads: `"image"`, `"text"`, `"audio"`, or `"embedding"` for precomputed features.
        encoder: Its encoder, None for precomputed features.
        pooling: How that is pooled.
        features: Width of what is pooled.
        head: What follows, or None.
        owner: Modality that encoder and head belong to, another where they are shared.
    """

    modality: str
    kind: str
    encoder: Any
    pooling: str
    features: int
    head: nn.Module | None
    owner: str

    @property
    def head_kind(self) -> str:
        """`"linear"`, `"mlp"`, `"none"`, or `"attention"` where it reads tokens."""
        if self.head is None:
            return "none"
        return {nn.Linear: "linear", nn.Sequential: "mlp"}.get(type(self.head), "attention")

    def matrix(self) -> Float[Tensor, "d c"]:
        """The head as a matrix, in single precision: that of a linear one, or the identity."""
        if isinstance(self.head, nn.Linear):
            return self.head.weight.detach().float()
        return torch.eye(self.features)


@dataclass(frozen=True)
class Pair:
    """Two towers that a plain class of `transformers` may hold.

    Args:
        other: The tower of images or sounds.
        text: That of texts.
        width: Width of the joint space.
        logit_scale: Log inverse temperature.
        logit_bias: Bias of the logits, or None.
    """

    other: Part
    text: Part
    width: int
    logit_scale: float
    logit_bias: float | None


def parts_of(model: Any, modalities: Sequence[str] | None = None) -> dict[str, Part]:
    """
    The modalities of a [`MultiEncoder`].

    Args:
        model: The model.
        modalities: Those that are meant, by default all.

    Raises:
        ValueError: The model has no such modality.
    """
    if isinstance(modalities, str) or (modalities is not None and not modalities):
        raise ValueError(f"`modalities` must be names of modalities of {model.modalities}, but got {modalities!r}.")
    if unknown := sorted(set(modalities or ()) - set(model.modalities)):
        raise ValueError(f"`modalities` has {unknown}, but the model has {model.modalities}.")
    found = {}
    for name in model.modalities if modalities is None else modalities:
        own = model.config.modalities[name]
        owner = own.shared_with or name
        settings, encoder = model.config.modalities[owner], getattr(model, f"{owner}_model")
        precomputed = isinstance(encoder, nn.Identity)
        has_head = own.shared_with is None or own.head is not None
        found[name] = Part(
            name,
            "embedding" if precomputed else kind_of(model.inputs_of(name)),
            None if precomputed else encoder,
            settings.pooling or "none",
            settings.features or 0,
            getattr(model, f"{name if has_head else owner}_projection", None),
            name if has_head else owner,
        )
    return found


def pair_of(model: Any, parts: Mapping[str, Part]) -> Pair:
    """
    The two towers of a model for images or sounds, and texts.

    Raises:
        InexpressibleError: There are others.
    """
    kinds = {name: part.kind for name, part in parts.items()}
    texts = [part for part in parts.values() if part.kind == "text"]
    others = [part for part in parts.values() if part.kind in ("image", "audio")]
    if len(parts) != 2 or len(texts) != 1 or len(others) != 1:
        raise InexpressibleError(
            f"The dual encoders of `transformers` have a tower for texts and one for images or sounds, but the towers are: "
            f"{told(kinds)}." + (" Name two of them in `modalities`." if len(parts) > 2 and texts and others else "")
        )
    scalars = scalars_of(model, list(parts))
    return Pair(others[0], texts[0], model.config.width, scalars[SCALE], scalars.get(BIAS))


def scalars_of(model: Any, modalities: Sequence[str]) -> dict[str, Any]:
    """Trained `logit_scale` and `logit_bias` of a model: one number each, or a list where there is one for each pair."""
    found = {}
    for name in (SCALE, BIAS):
        # CLAP has two temperatures, of which its losses use the first for sounds.
        value = getattr(model, name, getattr(model, f"{name}_a", None))
        if value is not None:
            numbers = value.detach().float().reshape(-1).tolist()
            if len(numbers) > 1 and len(modalities) == 2:
                place = pair_names(model.modalities).index(pair_names(list(modalities))[0])
                numbers = [numbers[place]]
            found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found


def is_automatic(encoder: Any) -> bool:
    """Whether `AutoModel` makes an encoder from its configuration, so that others who call it get the same."""
    config = encoder.config
    return type(config) in MODEL_MAPPING and not config.is_encoder_decoder and architecture_of(encoder) is None
