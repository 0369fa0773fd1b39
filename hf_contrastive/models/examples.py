"""Two tiny examples for any encoder."""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_contrastive.models.peculiarities import peculiarities_of, random_rows


# Tokens of an example: few enough for any encoder.
_TOKENS = 4
_FRAMES = 16
_SAMPLES = 3200


def example_inputs(encoder: PreTrainedModel) -> dict[str, Tensor]:
    """
    Inputs of two examples, where the encoder is. Two texts differ in their last token only.

    Raises:
        ValueError: It is not known what the encoder reads.
    """
    config, name = encoder.config, encoder.main_input_name
    make = peculiarities_of(config).example or _MAKERS.get(name)
    if "spatial_shapes" in inspect.signature(type(encoder).forward).parameters:
        make = _patches
    if make is None:
        *names, last = (f"`{known}`" for known in _MAKERS)
        raise ValueError(
            f"A tower must read {', '.join(names)} or {last}, but {type(encoder).__name__} reads `{name}`."
        )
    # Whatever PyTorch's default is: the seed is one of the CPU.
    with torch.device("cpu"):
        made = make(config)
    device, dtype = encoder.device, encoder.dtype
    return {name: x.to(device, dtype if x.is_floating_point() else None) for name, x in made.items()}


def _text(config: Any) -> dict[str, Tensor]:
    size = config.get_text_config().vocab_size
    ids = torch.arange(_TOKENS).repeat(2, 1) * max(1, size // (2 * _TOKENS)) + size // 3
    ids[1, -1] += 1
    return {"input_ids": ids % size, "attention_mask": torch.ones_like(ids)}


def _image(config: Any) -> dict[str, Tensor]:
    frames = (config.num_frames,) if hasattr(config, "num_frames") else ()
    return {"pixel_values": random_rows(*frames, *_pixels(config, "image_size"))}


def _video(config: Any) -> dict[str, Tensor]:
    """V-JEPA and the like, which say otherwise how large their pictures are."""
    size = "crop_size" if hasattr(config, "crop_size") else "image_size"
    frames = getattr(config, "frames_per_clip", _TOKENS)
    return {"pixel_values_videos": random_rows(frames, *_pixels(config, size))}


def _pixels(config: Any, name: str) -> tuple[int, int, int]:
    size = getattr(config, name, 64)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(config, "num_channels", getattr(config, "in_chans", 3))
    return channels, height, width


def _patches(config: Any) -> dict[str, Tensor]:
    """A picture of four patches, cut already, of SigLIP 2, whose pictures have any number."""
    return {
        "pixel_values": random_rows(4, config.num_channels * config.patch_size**2),
        "pixel_attention_mask": torch.ones(2, 4, dtype=torch.long),
        "spatial_shapes": torch.full((2, 2), 2),
    }


def _features(config: Any) -> dict[str, Tensor]:
    names = ("feature_projection_input_dim", "input_feat_per_channel", "num_mel_bins")
    return {
        "input_features": random_rows(_FRAMES, next((getattr(config, x) for x in names if hasattr(config, x)), 80))
    }


def _values(config: Any) -> dict[str, Tensor]:
    shape = (config.max_length, config.num_mel_bins) if hasattr(config, "num_mel_bins") else (_SAMPLES,)
    return {"input_values": random_rows(*shape)}


_MAKERS = {
    "input_ids": _text,
    "pixel_values": _image,
    "pixel_values_videos": _video,
    "input_features": _features,
    "input_values": _values,
}
