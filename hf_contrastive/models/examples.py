"""Two tiny examples for any encoder."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


# Tokens of an example: few enough for any encoder.
_TOKENS = 4
_SAMPLES = 3200


def example_inputs(encoder: PreTrainedModel) -> dict[str, Tensor]:
    """
    Inputs of two examples, where the encoder is. Two texts differ in their last token only.

    Raises:
        ValueError: It is not known what the encoder reads.
    """
    config, name = encoder.config, encoder.main_input_name
    made = _text(config) if name == "input_ids" else {}
    shape = {
        "pixel_values": _image_shape,
        "input_features": _feature_shape,
        "input_values": _value_shape,
    }.get(name)
    if shape is not None:
        made = {name: torch.randn(2, *shape(config), generator=torch.Generator().manual_seed(0))}
        if config.model_type == "clap_audio_model":
            made["is_longer"] = torch.zeros(2, 1, dtype=torch.bool)
    if not made:
        raise ValueError(
            f"A tower must read `input_ids`, `pixel_values`, `input_features` or `input_values`, but "
            f"{type(encoder).__name__} reads `{name}`."
        )
    device, dtype = encoder.device, encoder.dtype
    return {name: x.to(device, dtype if x.is_floating_point() else None) for name, x in made.items()}


def _text(config: Any) -> dict[str, Tensor]:
    size = config.get_text_config().vocab_size
    ids = torch.arange(_TOKENS).repeat(2, 1) * max(1, size // (2 * _TOKENS)) + size // 3
    ids[1, -1] += 1
    return {"input_ids": ids % size, "attention_mask": torch.ones_like(ids)}


def _image_shape(config: Any) -> tuple[int, ...]:
    size = getattr(config, "image_size", 64)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    frames = (config.num_frames,) if hasattr(config, "num_frames") else ()
    return (*frames, getattr(config, "num_channels", 3), height, width)


def _feature_shape(config: Any) -> tuple[int, ...]:
    if config.model_type == "clap_audio_model":
        frames = config.spec_size * (config.spec_size // config.num_mel_bins)
        return (4 if config.enable_fusion else 1, frames, config.num_mel_bins)
    if hasattr(config, "max_source_positions"):
        return (config.num_mel_bins, 2 * config.max_source_positions)
    return (2 * _TOKENS, getattr(config, "feature_projection_input_dim", 80))


def _value_shape(config: Any) -> tuple[int, ...]:
    if hasattr(config, "num_mel_bins"):
        return (config.max_length, config.num_mel_bins)
    return (_SAMPLES,)
