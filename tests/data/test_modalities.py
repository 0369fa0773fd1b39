"""How raw values of one modality become inputs of its tower, and which are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from hf_contrastive.data.modalities import Modality, as_tensors


RATE = 100
SOUND = Modality(processor=Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=True))
IMAGE = Modality(
    processor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
    rename={"pixel_values": "frames"},
)


def tone(samples: int, rate: int = RATE) -> dict[str, Any]:
    return {"array": np.sin(np.arange(samples) / 3 + 1), "sampling_rate": rate}


def test_sounds_pass_through_their_feature_extractor():
    found = SOUND.inputs("audio", [tone(30), tone(50)])
    expected = SOUND.processor([tone(30)["array"], tone(50)["array"]], sampling_rate=RATE, padding=True)
    np.testing.assert_allclose(found["input_values"], np.stack(expected["input_values"]), rtol=0, atol=1e-6)
    assert found["attention_mask"].sum(dim=1).tolist() == [30, 50]


def test_a_sound_that_is_not_there_is_silence_as_long_as_the_others():
    found = SOUND.inputs("audio", [tone(30), None])
    assert found["input_values"].shape == (2, 30)
    assert found["input_values"].isfinite().all()
    assert SOUND.inputs("audio", [None])["input_values"].shape == (1, RATE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tone(30, 44100), r"^Example 1 of a batch has a 'audio' of 44100 samples a second, .* wants 100\. Resample"),
        (np.ones(4), r"^Example 1 of a batch has a ndarray as its 'audio', but sounds must have an `array`"),
        (tone(0), r"^Example 1 of a batch has a sound without any numbers as its 'audio'"),
        (tone(3) | {"array": [0, 0, 0]}, "a sound of nothing but zeros"),
        (tone(3) | {"array": [0, np.nan, 0]}, "a sound with NaN or infinity"),
        (tone(3) | {"array": np.ones((2, 3))}, r"a sound of shape \[2, 3\] instead of one row"),
    ],
    ids=["rate", "no rate", "empty", "silent", "nan", "stereo"],
)
def test_a_sound_that_cannot_be_used_is_refused(value: Any, message: str):
    with pytest.raises(ValueError, match=message):
        SOUND.inputs("audio", [tone(5), value])


def test_a_processor_without_a_rate_is_refused():
    sound = Modality(processor=lambda *_, **__: {}, kind="audio")
    with pytest.raises(ValueError, match="The `processor` of 'audio' has no `sampling_rate`"):
        sound.inputs("audio", [tone(5)])


def test_embeddings_are_features_in_single_precision():
    values = [[1.0, 2.0], np.array([3.0, 4.0]), torch.tensor([5.0, 6.0], dtype=torch.float64), None]
    found = Modality().inputs("product", values)
    assert list(found) == ["product_features"]
    assert found["product_features"].dtype == torch.float32
    assert found["product_features"].tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]
    assert list(Modality(rename={"features": "x"}).inputs("product", values)) == ["x"]


@pytest.mark.parametrize(
    ("values", "width", "message"),
    [
        ([[1.0, 2.0], [1.0]], None, r"^Example 1 of a batch has a 'product' of width 1, others of 2\.$"),
        ([[1.0, 2.0]], 3, r"^Example 0 of a batch has a 'product' of width 2, others of 3\.$"),
        ([[1.0], [float("nan")]], None, "Example 1 of a batch has an embedding with NaN or infinity as its 'product'"),
        ([[1.0], [0.0]], None, "Example 1 of a batch has an embedding of nothing but zeros"),
        ([[1.0], []], None, "Example 1 of a batch has an embedding without any numbers"),
        ([None], None, "No example of a batch has a 'product': say how wide they are with `width`"),
    ],
)
def test_an_embedding_that_cannot_be_used_is_refused(values: list[Any], width: int | None, message: str):
    with pytest.raises(ValueError, match=message):
        Modality(width=width).inputs("product", values)


def test_a_transform_is_applied_to_each_value_and_outputs_are_renamed():
    black, white = PILImage.new("RGB", (9, 9)), PILImage.new("RGB", (9, 9), "white")
    swapped = Modality(processor=IMAGE.processor, transform=lambda image: white if image is black else black)
    found = swapped.inputs("image", [black, white])["pixel_values"]
    expected = IMAGE.inputs("image", [white, black])
    assert list(expected) == ["frames"]
    torch.testing.assert_close(found, expected["frames"], rtol=0, atol=0)
    assert not torch.equal(found[0], found[1])


def test_images_of_the_fast_way_are_those_of_the_processor():
    images = [PILImage.effect_noise((12, 9 + row), 50) for row in range(3)]
    slow = Modality(processor=IMAGE.processor, fast=False).inputs("image", images)["pixel_values"]
    torch.testing.assert_close(IMAGE.inputs("image", images)["frames"], slow, rtol=0, atol=0)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused(text: str):
    with pytest.raises(ValueError, match="Example 1 of a batch has an empty text as its 'text'"):
        Modality(processor=lambda *_, **__: {}, kind="text").inputs("text", ["a", text])


@pytest.mark.parametrize("value", ["a", True, [1, 2], torch.ones(3), torch.tensor(2.0)], ids=str)
def test_anything_but_tensors_of_all_rows_is_refused(value: Any):
    with pytest.raises(ValueError, match=r"must return tensors with one row for each of 2 examples, but returned"):
        as_tensors({"x": torch.ones(2), "y": value}, 2)


def test_a_processor_of_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match=r"Cannot tell what a function is for. Say so with `kind`"):
        Modality(processor=lambda x: x)


@pytest.mark.parametrize("options", [{"kind": "smell"}, {"kind": "text"}], ids=str)
def test_kinds_that_cannot_be_are_refused(options: Any):
    with pytest.raises(ValueError, match=r"`kind` must be one of|cannot have the `processor` None"):
        Modality(**options)


def test_an_extractor_that_pads_as_its_model_wants_is_left_to_it():
    whisper = WhisperFeatureExtractor(chunk_length=1)
    values = [np.sin(np.arange(5000.0)), np.cos(np.arange(7000.0))]
    sounds = [{"array": x, "sampling_rate": 16_000} for x in values]
    found = Modality(processor=whisper).inputs("audio", sounds)["input_features"]
    expected = whisper(values, sampling_rate=16_000, return_tensors="pt")["input_features"]
    # A second, whatever the sounds' length.
    assert found.shape == (2, 80, 100)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
