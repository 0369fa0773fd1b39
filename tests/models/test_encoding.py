"""Rows of `encode` are those of each value alone, whatever its batch, its length and its file were."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from PIL import Image
from transformers import (
    ClapFeatureExtractor,
    PreTrainedTokenizerFast,
    ViTImageProcessor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
    set_seed,
)

from hf_contrastive import Modality
from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.models.from_scratch import train_tokenizer
from hf_contrastive.models.repeatable import repeatable_inputs
from tests.conftest import COLORS
from tests.models.test_multi_encoder import config_of


TEXTS = ["a red picture", "green", "something blue", "white and black"]


def words(**settings: Any) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer([f"a {color} picture" for color in COLORS], vocab_size=300, max_tokens=12)
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    return tokenizer


def of_texts(name: str, tokenizer: PreTrainedTokenizerFast) -> MultiEncoder:
    config = config_of(name)
    config.vocab_size = 300
    set_seed(0)
    model = MultiEncoder.from_towers({"text": config, "other": 6}, width=12)
    model.processor = MultiEncoderProcessor.for_model(model, {"text": tokenizer})
    return model


def of_sounds(config: Any, extractor: Any) -> MultiEncoder:
    set_seed(0)
    model = MultiEncoder.from_towers({"audio": config, "other": 6}, width=12)
    model.processor = MultiEncoderProcessor.for_model(model, {"audio": extractor})
    return model


def whisper() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=8, hop_length=800, chunk_length=1)


def clap(truncation: str, features: int) -> ClapFeatureExtractor:
    return ClapFeatureExtractor(
        feature_size=features, sampling_rate=100, hop_length=10, max_length_s=3, fft_window_size=512,
        frequency_max=50, truncation=truncation,
    )  # fmt: skip


def sounds(*lengths: int, rate: int = 16_000) -> list[dict[str, Any]]:
    return [{"array": np.sin(np.arange(n) / (3 + n % 7)), "sampling_rate": rate} for n in lengths]


def assert_alone_as_together(encode: Any, values: list[Any], tolerance: float = 1e-6) -> None:
    alone = torch.cat([encode([value]) for value in values])
    assert (alone[0] - alone[1]).norm() > 1e-3, "values that are all alike tell nothing"
    torch.testing.assert_close(encode(values), alone, rtol=0, atol=tolerance)


# ---- Texts ----


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "qwen3"])
def test_a_text_does_not_see_the_padding_of_its_batch(name: str, side: str):
    model = of_texts(name, words(padding_side=side))
    assert_alone_as_together(model.encode_text, TEXTS)


@pytest.mark.parametrize(
    ("name", "longest"),
    [("bert", 16), ("roberta", 14), ("mpnet", 14), ("distilbert", 16), ("qwen3", 16), ("gpt2", 16)],
)
def test_a_text_is_cut_where_its_tower_ends_if_the_tokenizer_knows_no_end(name: str, longest: int):
    model = of_texts(name, words(model_max_length=int(1e30)))
    assert model.processor(text="red " * 99)["input_ids"].shape == (1, longest)
    cut = model.encode_text(["red " * 99])
    torch.testing.assert_close(cut, model.encode_text(["red " * 200]))


def test_a_tokenizer_with_less_words_than_the_tower_has_positions_for_keeps_its_own_end():
    assert of_texts("bert", words()).processor(text="red " * 99)["input_ids"].shape == (1, 12)


def test_a_tokenizer_that_cannot_pad_is_refused():
    with pytest.raises(ValueError, match=r"The tokenizer of 'text' has no `pad_token`.* = tokenizer.eos_token"):
        of_texts("gpt2", words(pad_token=None))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a", "b", " \n"], r"`data\[2\]` is an empty text"),
        (["a", None], r"`data\[1\]` is nothing"),
        (["longer", "a", 3], r"`data\[2\]` is a int instead of a text"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(data: list[Any], message: str):
    with pytest.raises(ValueError, match=message):
        of_texts("bert", words()).encode("text", data, batch_size=2)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_size(size: Any):
    with pytest.raises(ValueError, match="`batch_size` be positive"):
        of_texts("bert", words()).encode_text(TEXTS, batch_size=size)


def test_values_may_be_any_sequence():
    model = of_texts("bert", words())
    expected = model.encode_text(TEXTS)
    column = Dataset.from_dict({"text": TEXTS})["text"]
    assert torch.equal(model.encode("text", (text for text in TEXTS)), expected)
    for given in (tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object), column):
        torch.testing.assert_close(model.encode("text", given), expected)
        assert torch.equal(model.processor(text=given)["input_ids"], model.processor(text=TEXTS)["input_ids"])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_are_in_the_order_of_the_values_for_batches_of_any_size(size: int):
    model = of_texts("bert", words())
    torch.testing.assert_close(model.encode_text(TEXTS, batch_size=size), model.encode_text(TEXTS), rtol=0, atol=1e-6)


def test_rows_may_be_trained_on():
    rows = of_texts("bert", words()).encode_text(TEXTS)
    head = torch.nn.Linear(12, 1)
    head(rows).sum().backward()
    torch.testing.assert_close(head.weight.grad[0], rows.sum(0))


def test_threads_share_a_model_in_evaluation_mode():
    model = of_texts("bert", words())
    expected = model.encode_text(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(model.encode_text, [TEXTS] * 16):
            torch.testing.assert_close(rows, expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_a_model_in_half_precision_returns_about_the_same(dtype: torch.dtype, tolerance: float):
    model = of_texts("bert", words())
    expected = model.encode_text(TEXTS)
    found = model.to(dtype).encode_text(TEXTS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_a_single_value_is_no_list():
    model = of_texts("bert", words())
    for given in ("a", np.array("a"), 3):
        with pytest.raises(ValueError, match="`data` must be a list of values, but got a "):
            model.encode("text", given)


def test_cosines_are_of_rows_of_one_width():
    cosines = MultiEncoder.similarity(np.array([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [4.0, -3.0]]))
    torch.testing.assert_close(cosines, torch.tensor([[0.6, 0.0]]))
    for other in (torch.ones(2, 3), torch.ones(2)):
        with pytest.raises(ValueError, match=r"rows of one width, .* but got \[\[1, 2\], "):
            MultiEncoder.similarity(torch.ones(1, 2), other)


# ---- Pictures ----


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_pictures_of_any_mode_are_read_as_colored_ones(mode: str):
    set_seed(0)
    model = MultiEncoder.from_towers({"image": config_of("vit"), "other": 6}, width=12)
    # It leaves pictures as they are unless told.
    pictures = ViTImageProcessor(size={"height": 8, "width": 8})
    model.processor = MultiEncoderProcessor.for_model(model, {"image": pictures})
    given = [Image.linear_gradient("L").convert(mode), Image.new("RGB", (20, 30), "red")]
    expected = model.encode_image([picture.convert("RGB") for picture in given])
    torch.testing.assert_close(model.encode_image(given), expected)
    with pytest.raises(ValueError, match=r"an array of shape \[20, 30\] instead of a picture"):
        model.encode_image([np.zeros((20, 30), np.uint8)])


# ---- Sounds ----


def test_a_sound_does_not_see_the_padding_of_its_batch():
    config = config_of("wav2vec2")
    config.feat_extract_norm, config.do_stable_layer_norm = "layer", True
    # By default it makes no mask.
    model = of_sounds(config, Wav2Vec2FeatureExtractor(sampling_rate=16_000))
    assert_alone_as_together(model.encode_audio, sounds(400, 900, 1600))


def test_the_silence_after_a_sound_is_not_pooled():
    model = of_sounds(config_of("whisper"), extractor := whisper())
    given = sounds(5600, 16_000)
    with torch.no_grad():
        features = extractor([x["array"] for x in given], sampling_rate=16_000, return_tensors="pt").input_features
        tokens = model.audio_model(features).last_hidden_state
        # 800 samples are a frame and 2 frames a token.
        pooled = torch.stack([tokens[0, :4].mean(0), tokens[1].mean(0)])
        expected = F.normalize(model.audio_projection(pooled), dim=1)
    torch.testing.assert_close(model.encode_audio(given), expected, rtol=0, atol=1e-6)


def test_sounds_that_are_cropped_at_random_are_the_same_each_time():
    model = of_sounds(config_of("clap_audio"), clap("rand_trunc", 8))
    state = np.random.get_state()[1].copy()
    assert_alone_as_together(model.encode_audio, sounds(120, 90, 700, rate=100))
    assert np.array_equal(np.random.get_state()[1], state), "nobody else's random numbers are touched"


def test_a_short_sound_is_not_called_long_at_random():
    modality = Modality(processor=clap("fusion", 64))
    assert sorted(modality.inputs("audio", sounds(120, 90, rate=100))["is_longer"].tolist()) == [[False], [True]]
    inputs = repeatable_inputs(modality, "audio", given := sounds(120, 90, 700, rate=100))
    assert inputs["is_longer"].tolist() == [[False], [False], [True]]
    for row, value in enumerate(given):
        alone = repeatable_inputs(modality, "audio", [value])
        assert all(torch.equal(x[0], inputs[name][row]) for name, x in alone.items())


def test_a_single_sound_is_no_list():
    model = of_sounds(config_of("wav2vec2"), Wav2Vec2FeatureExtractor(sampling_rate=16_000))
    with pytest.raises(ValueError, match="`data` must be a list of values, but got a dict"):
        model.encode("audio", sounds(400)[0])
    assert model.processor(audio=sounds(400)[0])["input_values"].shape == (1, 400)


def test_the_mask_of_sounds_is_not_that_of_texts():
    config = config_of("bert")
    config.vocab_size = 300
    set_seed(0)
    model = MultiEncoder.from_towers({"audio": config_of("whisper"), "text": config}, width=12)
    processor = MultiEncoderProcessor.for_model(model, {"audio": whisper(), "text": words()})
    inputs = processor(audio=sounds(5600, 16_000), text=["a red picture", "a"])
    assert inputs["attention_mask"].shape == inputs["input_ids"].shape
    assert inputs["audio_attention_mask"].tolist() == [[1] * 7 + [0] * 13, [1] * 20]
