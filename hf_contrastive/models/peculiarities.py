"""What single architectures want otherwise than all others: one entry each, and the one place to add them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Peculiarities:
    """
    How one architecture differs.

    Args:
        settings: Values of its configuration without which it would do what belongs to pre-training.
        pooling: How it was trained to be compared, where what it returns does not tell.
        example: From its configuration to the inputs of two examples, where their shapes are its own.
        extra_inputs: From its configuration and inputs to further ones, with which it returns the same each time.
        is_padded: Whether its texts are always padded to all of its positions, which it reads without a mask.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    pooling: str | None = None
    example: Callable[[Any], Inputs] | None = None
    extra_inputs: Callable[[Any, Mapping[str, Any]], Inputs] | None = None
    is_padded: bool = False


def peculiarities_of(config: Any) -> Peculiarities:
    """Those of the architecture that a configuration is for; most have none."""
    return _BY_MODEL_TYPE.get(config.model_type, _NONE)


def random_rows(*shape: int) -> Tensor:
    """Two rows of random numbers, the same each time."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _unshuffled(config: Any, inputs: Mapping[str, Any]) -> Inputs:
    """The noise whose order shuffles patches: as they are."""
    if "noise" in inputs:
        return {}
    pixels = inputs["pixel_values"]
    size = config.patch_size if isinstance(config.patch_size, (list, tuple)) else (config.patch_size,) * 2
    patches = (pixels.shape[-2] // size[0]) * (pixels.shape[-1] // size[1])
    return {"noise": torch.arange(patches, device=pixels.device, dtype=torch.float32).expand(pixels.shape[0], -1)}


def _clap_sounds(config: Any) -> Inputs:
    frames = config.spec_size * (config.spec_size // config.num_mel_bins)
    features = random_rows(4 if config.enable_fusion else 1, frames, config.num_mel_bins)
    return {"input_features": features, "is_longer": torch.full((2, 1), config.enable_fusion)}


def _whisper_sounds(config: Any) -> Inputs:
    """Of the one length that it takes."""
    return {"input_features": random_rows(config.num_mel_bins, 2 * config.max_source_positions)}


_NONE = Peculiarities()
_BY_MODEL_TYPE = {
    # It would leave out three quarters of the patches, chosen at random.
    "vit_mae": Peculiarities(settings={"mask_ratio": 0.0}, extra_inputs=_unshuffled),
    # Its dense layer with tanh on the first token was trained to be compared, unlike that of BERT and ViT.
    "clap_text_model": Peculiarities(pooling="pooler"),
    "clap_audio_model": Peculiarities(example=_clap_sounds),
    "chinese_clip_text_model": Peculiarities(pooling="cls"),
    "siglip_text_model": Peculiarities(is_padded=True),
    "siglip2_text_model": Peculiarities(is_padded=True),
    "whisper": Peculiarities(example=_whisper_sounds),
}
