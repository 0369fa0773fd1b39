"""What the collator makes of raw examples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageOps
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoProcessor,
    ClapFeatureExtractor,
    ClapProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipProcessor,
    Wav2Vec2FeatureExtractor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from hf_contrastive.data import ContrastiveCollator, Modality, PairDataset
from tests.conftest import TINY, make_pairs, tiny_siglip


@pytest.fixture(scope="module")
def processor(saved_clip: Path) -> CLIPProcessor:
    return AutoProcessor.from_pretrained(saved_clip)


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    return PairDataset(make_pairs(5)).__getitems__(range(5))


def siglip_processor() -> SiglipProcessor:
    """SigLIP's processor around a tokenizer of a few words, since its own needs a vocabulary from the Hub."""
    words = ["<pad>", "<unk>", "a", "red", "green", "blue", "white", "black", "picture", "number"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=64
    )
    return SiglipProcessor(SiglipImageProcessor(size={"height": 8, "width": 8}), fast)


def test_returns_tensors_with_one_row_per_example(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    batch = ContrastiveCollator(processor=processor)(examples)
    assert type(batch) is dict
    assert all(isinstance(value, torch.Tensor) and len(value) == 5 for value in batch.values())
    assert batch["pixel_values"].shape == (5, 3, 16, 16)
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].bool().any(dim=1).all()


def test_the_batch_is_what_the_model_takes(saved_clip: Path, processor: CLIPProcessor, examples: list[dict[str, Any]]):
    model = CLIPModel.from_pretrained(saved_clip)
    with torch.no_grad():
        output = model(**ContrastiveCollator.for_model(model, processor)(examples))
    assert output.logits_per_image.shape == (5, 5)


def test_columns_can_have_other_names(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    renamed = [{"photo": row["image"], "alt": row["text"], "id": 3} for row in examples]
    collator = ContrastiveCollator(processor=processor, columns={"images": "photo", "text": "alt"})
    expected = ContrastiveCollator(processor=processor)(examples)
    for name, value in collator(renamed).items():
        assert torch.equal(value, expected[name])


def test_a_missing_column_is_answered_with_those_there_are(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    collator = ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    with pytest.raises(ValueError, match=r"reads column 'caption', but the examples have \['image', 'text'\]"):
        collator(examples)


def test_captions_are_padded_to_the_longest(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    examples[0]["text"] = "a"
    mask = ContrastiveCollator(processor=processor)(examples)["attention_mask"]
    assert mask.sum(dim=1).max() == mask.shape[1] < TINY.max_tokens
    assert mask[0].sum() == 3, "begin, one word, end"


def test_long_captions_are_cut_to_the_length_of_the_model(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    examples[0]["text"] = "a red picture " * 50
    batch = ContrastiveCollator(processor=processor)(examples)
    assert batch["input_ids"].shape[1] == TINY.max_tokens
    assert batch["input_ids"][0, -1] == processor.tokenizer.eos_token_id


def test_siglip_pads_to_all_of_its_positions(examples: list[dict[str, Any]]):
    model = tiny_siglip()
    examples[0]["text"] = "a red picture " * 50
    batch = ContrastiveCollator.for_model(model, siglip_processor())(examples)
    assert batch["input_ids"].shape == (5, model.config.text_config.max_position_embeddings)
    with torch.no_grad():
        assert model(**batch).logits_per_image.shape == (5, 5)


def test_options_of_the_processor_are_passed_on(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    options = {"padding": "max_length", "truncation": True, "max_length": 7}
    batch = ContrastiveCollator(processor=processor, processor_kwargs=options)(examples)
    assert batch["input_ids"].shape == (5, 7)


# ---- Rows that show the same, rows that lack something ----


@pytest.mark.parametrize(
    "ids",
    [[3, 1, 3, 0, 2], ["cat", "dog", "cat", "owl", "ant"], np.array([3, 1, 3, 0, 2]), torch.tensor([3, 1, 3, 0, 2])],
    ids=["integers", "strings", "numpy", "torch"],
)
def test_ids_are_equal_where_examples_show_the_same(processor: CLIPProcessor, examples: list[Any], ids: list[Any]):
    examples = [example | {"id": i} for example, i in zip(examples, ids, strict=True)]
    found = ContrastiveCollator(processor=processor, id_column="id")(examples)["example_ids"]
    assert found.dtype == torch.int64
    assert torch.equal(found[:, None] == found, torch.tensor([[a == b for b in ids] for a in ids]))


def test_ids_of_strings_are_the_same_in_every_process(processor: CLIPProcessor, examples: list[Any]):
    # Python's own hash of strings differs between processes, and ids are compared across them.
    found = ContrastiveCollator(processor=processor, id_column="id")([examples[0] | {"id": "cat"}])["example_ids"]
    assert found.tolist() == [1843079001574132759]


def test_an_id_that_is_no_integer_or_string_is_refused(processor: CLIPProcessor, examples: list[Any]):
    for wrong in (1.5, None, True):
        with pytest.raises(
            ValueError, match=rf"^The ids of examples must be integers or strings, but one is {wrong}\.$"
        ):
            ContrastiveCollator(processor=processor, id_column="id")([examples[0] | {"id": wrong}])


class ThreeInputs:
    """A processor of three modalities, as there are for images, texts and sounds."""

    def __call__(self, *, images: list[Any], text: list[str], audio: list[float], **_: Any) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": torch.tensor([float(image.size[0]) for image in images]),
            "input_ids": torch.tensor([len(words) for words in text]),
            "input_features": torch.tensor(audio),
        }


THREE = {"images": "image", "text": "text", "audio": "sound"}


def test_examples_that_lack_one_of_three_get_a_blank_and_a_mark(examples: list[Any]):
    examples = [example | {"sound": 1.0} for example in examples]
    examples[1]["text"] = examples[3]["image"] = None
    inputs = ContrastiveCollator(processor=ThreeInputs(), columns=THREE)(examples)
    assert inputs["input_ids"][1] == 0
    assert inputs["present_text"].tolist() == [True, False, True, True, True]
    assert inputs["present_image"].tolist() == [True, True, True, False, True]
    # Marks at every step, so that loaders can join the batches of processes.
    assert inputs["present_audio"].all()


def test_an_example_with_one_modality_is_refused_with_its_place(examples: list[Any]):
    examples = [example | {"sound": 1.0} for example in examples]
    examples[2]["text"] = examples[2]["image"] = examples[4]["text"] = examples[4]["image"] = None
    with pytest.raises(ValueError, match=r"^Example 2 of a batch has fewer than two of the columns .*2 such examples"):
        ContrastiveCollator(processor=ThreeInputs(), columns=THREE)(examples)


def test_a_sound_cannot_be_blank(examples: list[Any]):
    examples = [example | {"sound": None} for example in examples]
    with pytest.raises(
        ValueError, match=r"Examples lack their 'audio'. One processor of all modalities can do without images"
    ):
        ContrastiveCollator(processor=ThreeInputs(), columns=THREE)(examples)


def test_complete_examples_have_no_marks(processor: CLIPProcessor, examples: list[Any]):
    inputs = ContrastiveCollator(processor=processor)(examples)
    assert set(inputs) == {"pixel_values", "input_ids", "attention_mask"}


def test_a_missing_id_column_is_named(processor: CLIPProcessor, examples: list[Any]):
    with pytest.raises(
        ValueError, match=r"^The collator reads column 'product', but the examples have \['image', 'text'\]"
    ):
        ContrastiveCollator(processor=processor, id_column="product")(examples)


# ---- A processor for each modality ----


def sounds(rows: int, rate: int = 100) -> list[dict[str, Any]]:
    return [{"array": np.sin(np.arange(30 + row) + 1.0), "sampling_rate": rate} for row in range(rows)]


@pytest.fixture
def four(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Examples of four modalities."""
    vectors = torch.arange(10.0).view(5, 2).tolist()
    return [e | {"sound": s, "vector": v} for e, s, v in zip(examples, sounds(5), vectors, strict=True)]


def collator_of_four(processor: CLIPProcessor, **options: Any) -> ContrastiveCollator:
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=100)
    given = {
        "image": (processor.image_processor, "image"),
        "text": Modality(processor=processor.tokenizer),
        "audio": (extractor, "sound"),
        "product": (None, "vector"),
    }
    return ContrastiveCollator(processor=given, **options)


def test_each_modality_passes_through_its_own_processor(processor: CLIPProcessor, four: list[dict[str, Any]]):
    four[2]["sound"] = four[3]["vector"] = four[3]["text"] = four[4]["image"] = None
    inputs = collator_of_four(processor)(four)
    assert all(isinstance(x, torch.Tensor) and len(x) == 5 for x in inputs.values())
    names = {"pixel_values", "input_ids", "attention_mask", "input_values", "product_features"}
    assert set(inputs) == names | {f"present_{m}" for m in ("image", "text", "audio", "product")}
    assert inputs["present_audio"].tolist() == [True, True, False, True, True]
    assert inputs["present_product"].tolist() == inputs["present_text"].tolist() == [True, True, True, False, True]
    expected = ContrastiveCollator(processor=processor)(four[:3])
    torch.testing.assert_close(inputs["pixel_values"][:3], expected["pixel_values"], rtol=0, atol=0)
    length = expected["input_ids"].shape[1]
    assert torch.equal(inputs["input_ids"][:3, :length], expected["input_ids"])
    assert inputs["product_features"][1].tolist() == [2, 3]


def test_two_modalities_may_be_views_of_one_column(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    views = {
        f"view_{number}": Modality(
            processor=processor.image_processor,
            column="image",
            transform=transform,
            rename={"pixel_values": f"view_{number}_pixel_values"},
        )
        for number, transform in ((1, None), (2, ImageOps.mirror))
    }
    inputs = ContrastiveCollator(processor=views)(examples)
    assert set(inputs) == {"view_1_pixel_values", "view_2_pixel_values"}
    torch.testing.assert_close(
        inputs["view_2_pixel_values"], inputs["view_1_pixel_values"].flip(-1), rtol=0, atol=1e-6
    )


def test_inputs_of_one_name_are_refused(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    both = {"a": (processor.image_processor, "image"), "b": (processor.image_processor, "image")}
    with pytest.raises(ValueError, match=r"^Two modalities bring \['pixel_values'\], 'b' the later one\. .* `rename`"):
        ContrastiveCollator(processor=both)(examples)


def test_a_modality_that_is_neither_pair_nor_modality_is_refused():
    with pytest.raises(
        ValueError, match=r"`processor` of 'image' must be a Modality or a pair of processor and column"
    ):
        ContrastiveCollator(processor={"image": None})


def test_one_processor_of_all_may_return_nothing_but_tensors(examples: list[dict[str, Any]]):
    with pytest.raises(ValueError, match=r"must return tensors with one row for each of 5 examples, .*'size': 'list'"):
        ContrastiveCollator(processor=lambda **_: {"pixel_values": torch.ones(5), "size": [1] * 5})(examples)


def test_an_example_without_its_only_modality_is_refused(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    examples[2]["image"] = None
    collator = ContrastiveCollator(processor={"image": (processor.image_processor, "image")})
    with pytest.raises(ValueError, match=r"^Example 2 of a batch has fewer than one of the columns \['image'\]"):
        collator(examples)


# ---- Images the fast way ----


def test_images_take_the_fast_way_and_are_the_same(
    processor: CLIPProcessor, examples: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    # With torchvision the one of the fixture is no PIL one.
    processor = CLIPProcessor(CLIPImageProcessorPil(**processor.image_processor.to_dict()), processor.tokenizer)
    slow = ContrastiveCollator(processor=processor, fast_images=False)(examples)
    # Without its own way, whatever the processor would return must come from the fast one.
    monkeypatch.setattr(type(processor.image_processor), "__call__", None)
    fast = ContrastiveCollator(processor=processor)(examples)
    assert set(fast) == set(slow)
    for name, expected in slow.items():
        torch.testing.assert_close(fast[name], expected, rtol=0, atol=0)


def test_the_fast_way_is_declined_for_pairs_too(processor: CLIPProcessor):
    given = {"image": (processor.image_processor, "image")}
    collator = ContrastiveCollator(processor=given, fast_images=False)
    assert not collator.processor["image"].fast
    assert ContrastiveCollator(processor=given).processor["image"].fast


def test_options_for_images_keep_the_processor(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    options = {"padding": True, "truncation": True, "do_normalize": False}
    found = ContrastiveCollator(processor=processor, processor_kwargs=options)(examples)["pixel_values"]
    assert found.min() >= 0
    assert not torch.equal(found, ContrastiveCollator(processor=processor)(examples)["pixel_values"])


# ---- Hard negatives ----


@pytest.mark.parametrize("by_modality", [False, True])
def test_hard_negatives_are_padded_with_the_texts(
    processor: CLIPProcessor, four: list[dict[str, Any]], by_modality: bool
):
    four = [e | {"wrong": [f"{e['text']} and a cat", "a dog", "more"]} for e in four]
    options = {"hard_negatives": {"text": "wrong"}, "num_hard_negatives": 2}
    whole = (
        collator_of_four(processor, **options) if by_modality else ContrastiveCollator(processor=processor, **options)
    )
    inputs = whole(four)
    length = inputs["input_ids"].shape[1]
    assert inputs["hard_negatives__text__input_ids"].shape == (5, 2, length)
    assert inputs["hard_negatives__text__attention_mask"].shape == (5, 2, length)
    texts = [e["wrong"][0] for e in four]
    expected = processor.tokenizer(texts, padding="max_length", max_length=length)["input_ids"]
    assert inputs["hard_negatives__text__input_ids"][:, 0].tolist() == expected
    assert "hard_negatives__text__pixel_values" not in inputs


def test_a_single_hard_negative_needs_no_list(processor: CLIPProcessor, examples: list[dict[str, Any]]):
    examples = [e | {"wrong": "a dog"} for e in examples]
    inputs = ContrastiveCollator(processor=processor, hard_negatives={"text": "wrong"})(examples)
    assert inputs["hard_negatives__text__input_ids"].shape[:2] == (5, 1)


@pytest.mark.parametrize("wrong", [["one"], ["one", None], [], None], ids=repr)
def test_too_few_hard_negatives_are_refused(processor: CLIPProcessor, examples: list[dict[str, Any]], wrong: Any):
    examples = [e | {"wrong": ["a", "b"]} for e in examples]
    examples[3]["wrong"] = wrong
    collator = ContrastiveCollator(processor=processor, hard_negatives={"text": "wrong"}, num_hard_negatives=2)
    with pytest.raises(ValueError, match=r"^Example 3 of a batch has [01] hard negatives in 'wrong', but needs 2\.$"):
        collator(examples)


def test_hard_negatives_of_no_modality_are_refused(processor: CLIPProcessor):
    with pytest.raises(ValueError, match=r"`hard_negatives` must be of the modalities \['image', 'text'\], but got"):
        ContrastiveCollator(processor=processor, hard_negatives={"caption": "wrong"})
    with pytest.raises(ValueError, match="`num_hard_negatives` must be at least 1, but got 0"):
        ContrastiveCollator(processor=processor, num_hard_negatives=0)


def test_ids_of_a_dataset_that_reads_all_captions_are_handed_on(processor: CLIPProcessor):
    rows = PairDataset(make_pairs(3, many_captions=True), pick="all")
    inputs = ContrastiveCollator(processor=processor)(rows.__getitems__(range(6)))
    assert inputs["example_ids"].tolist() == [0, 0, 1, 1, 2, 2]
    rows = PairDataset(make_pairs(3, many_captions=True).add_column("nr", [7, 7, 9]), pick="all", id_column="nr")
    inputs = ContrastiveCollator(processor=processor)(rows.__getitems__(range(6)))
    assert inputs["example_ids"].tolist() == [7, 7, 7, 7, 9, 9]


# ---- One processor of texts and sounds ----


def test_sounds_of_one_processor_are_read_and_their_rate_checked():
    window = {"fft_window_size": 256, "hop_length": 40, "frequency_max": 2000, "max_length_s": 1}
    extractor = ClapFeatureExtractor(feature_size=8, sampling_rate=4000, **window)
    processor = ClapProcessor(extractor, siglip_processor().tokenizer)
    collator = ContrastiveCollator(processor=processor, columns={"audio": "sound", "text": "words"})
    examples = [{"sound": sound, "words": "a red picture"} for sound in sounds(3, 4000)]
    inputs = collator(examples)
    assert set(inputs) >= {"input_features", "is_longer", "input_ids", "attention_mask"}
    # Short sounds are repeated, as CLAP was trained with, and not filled with silence.
    expected = extractor([e["sound"]["array"] for e in examples], sampling_rate=4000, return_tensors="pt")
    torch.testing.assert_close(inputs["input_features"], expected["input_features"], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="of 44100 samples a second, but its processor wants 4000"):
        collator([*examples[:1], {"sound": sounds(1, 44100)[0], "words": "a"}])
