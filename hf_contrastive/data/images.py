"""Images to pixel values at the speed of their resize, bit for bit what the image processor returns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor
from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import get_resize_output_image_size
from transformers.image_utils import ChannelDimension


# What an image processor may not define anew, if a resize, a crop and a table of its 256 levels are to stand for it.
STEPS = (
    "preprocess",
    "_preprocess",
    "process_image",
    "convert_to_rgb",
    "resize",
    "center_crop",
    "rescale",
    "normalize",
)


def is_plain(processor: Any) -> bool:
    """Whether an image processor does no more than resize with PIL, crop, rescale and normalize, as CLIP's and SigLIP's."""
    return (
        isinstance(processor, PilBackend)
        and all(getattr(type(processor), step) is getattr(PilBackend, step) for step in STEPS)
        and bool(processor.do_resize and processor.do_convert_rgb and (processor.do_rescale or processor.do_normalize))
        and not getattr(processor, "do_pad", None)
        and not isinstance(processor.resample, str)
        and bool(processor.size.shortest_edge or (processor.size.height and processor.size.width))
        and not processor.size.longest_edge
    )


def pixel_values(processor: PilBackend, images: Sequence[PILImage.Image]) -> Float[Tensor, "b 3 h w"] | None:
    """
    What `processor` makes of images: they stay bytes until they are cropped, and a table turns bytes into floats.

    Args:
        processor ([`~transformers.image_processing_backends.PilBackend`]):
            An image processor that [`is_plain`].
        images (`list[PIL.Image.Image]`):
            The images, of any mode and size.

    Returns:
        `torch.Tensor` of shape `(b, 3, height, width)`, or `None` where the processor would pad or refuse: some image is
        smaller than the crop, or images end up with different sizes.
    """
    sizes = [_size(processor, image) for image in images]
    crops = [_crop(processor, size) for size in sizes]
    if len({(bottom - top, right - left) for top, left, bottom, right in crops}) > 1:
        return None
    if any(top < 0 or left < 0 for top, left, _, _ in crops):
        return None
    levels = _levels(processor)
    top, left, bottom, right = crops[0]
    values = np.empty((len(images), 3, bottom - top, right - left), dtype=np.float32)
    for row, (image, (height, width), (top, left, bottom, right)) in enumerate(zip(images, sizes, crops, strict=True)):
        if image.mode != "RGB" or "transparency" in image.info:
            # A picture up to transformers 5.20, an array later.
            converted = processor.convert_to_rgb(image)
            image = converted if isinstance(converted, PILImage.Image) else PILImage.fromarray(converted)
        pixels = np.asarray(image.resize((width, height), processor.resample).crop((left, top, right, bottom)))
        for channel in range(3):
            np.take(levels[channel], pixels[..., channel], out=values[row, channel], mode="clip")
    return torch.from_numpy(values)


def _size(processor: PilBackend, image: PILImage.Image) -> tuple[int, int]:
    size = processor.size
    if not size.shortest_edge:
        return size.height, size.width
    # An array of that shape without memory: the function reads no more than the shape.
    shaped = np.broadcast_to(np.uint8(0), (3, image.height, image.width))
    return get_resize_output_image_size(
        shaped, size=size.shortest_edge, default_to_square=False, input_data_format=ChannelDimension.FIRST
    )


def _crop(processor: PilBackend, size: tuple[int, int]) -> tuple[int, int, int, int]:
    if not processor.do_center_crop:
        return 0, 0, *size
    height, width = processor.crop_size.height, processor.crop_size.width
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return top, left, top + height, left + width


def _levels(processor: PilBackend) -> np.ndarray:
    """What the processor makes of each of the 256 levels of each channel, in its own arithmetic."""
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (3, 16, 16))
    if processor.do_rescale:
        levels = processor.rescale(levels, processor.rescale_factor)
    if processor.do_normalize:
        levels = processor.normalize(levels, processor.image_mean, processor.image_std)
    return np.ascontiguousarray(levels.reshape(3, 256), dtype=np.float32)
