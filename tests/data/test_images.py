"""The fast way of images, against the image processors that it stands for: equal to the last bit."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from hf_contrastive.data.images import is_plain, pixel_values


SIZES = [(50, 40), (40, 50), (37, 37), (24, 90), (24, 24), (100, 25)]


def photos(sizes: list[tuple[int, int]], mode: str = "RGB") -> list[PILImage.Image]:
    rng = np.random.default_rng(0)
    return [
        PILImage.fromarray(rng.integers(0, 256, (h, w, 4), dtype=np.uint8), "RGBA").convert(mode) for w, h in sizes
    ]


def clip(**options: Any) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        **({"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}} | options)
    )


PROCESSORS = [
    clip(),
    clip(crop_size={"height": 20, "width": 17}),
    clip(do_normalize=False),
    clip(do_rescale=False, resample=2),
    SiglipImageProcessorPil(size={"height": 30, "width": 21}),
]


@pytest.mark.parametrize("processor", PROCESSORS, ids=range(len(PROCESSORS)))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
def test_pixel_values_are_those_of_the_processor(processor: Any, mode: str):
    images = photos(SIZES, mode)
    assert is_plain(processor)
    expected = processor(images, return_tensors="pt")["pixel_values"]
    found = pixel_values(processor, images)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=0)
    assert found.is_contiguous()


def test_a_processor_that_keeps_bytes_is_left_to_itself():
    processor = SiglipImageProcessorPil(size={"height": 30, "width": 21}, do_normalize=False, do_rescale=False)
    assert not is_plain(processor)
    assert processor(photos(SIZES[:1]), return_tensors="pt")["pixel_values"].dtype == torch.uint8


def test_a_color_that_is_transparent_becomes_white_as_in_the_processor():
    image = photos([(30, 30)])[0]
    image.info["transparency"] = image.getpixel((3, 3))
    expected = clip()([image], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixel_values(clip(), [image]), expected, rtol=0, atol=0)


def test_what_the_processor_would_pad_is_left_to_it():
    assert pixel_values(clip(crop_size={"height": 30, "width": 30}), photos(SIZES)) is None


def test_images_of_different_sizes_are_left_to_the_processor():
    assert pixel_values(clip(do_center_crop=False), photos(SIZES)) is None
    assert pixel_values(clip(do_center_crop=False), photos(SIZES[:1] * 2)).shape == (2, 3, 24, 30)


class Sharpened(CLIPImageProcessorPil):
    def resize(self, image: np.ndarray, **kwargs: Any) -> np.ndarray:
        return super().resize(image, **kwargs) // 2


@pytest.mark.parametrize(
    "processor",
    [
        Sharpened(),
        clip(do_resize=False),
        clip(do_convert_rgb=False),
        clip(size={"shortest_edge": 24, "longest_edge": 40}),
        DetrImageProcessorPil(),
        lambda images: images,
        None,
    ],
    ids=["other resize", "no resize", "no conversion", "longest edge", "pads", "function", "none"],
)
def test_processors_that_do_anything_else_are_not_plain(processor: Any):
    assert not is_plain(processor)
