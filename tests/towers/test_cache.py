"""Outputs of frozen towers: computed once, computed again when they would differ, as good as the tower."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor, PreTrainedModel, default_data_collator, set_seed

from hf_contrastive import ContrastiveCollator, ContrastiveTrainer, load_dual_encoder
from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.towers.cache import CachedTowerCollator, cache_tower_embeddings
from hf_contrastive.towers.frozen import freeze_towers
from tests.conftest import make_inputs, make_pairs
from tests.training.test_trainer import make_trainer
from tests.training.three_towers import ThreeTowers, ThreeTowersConfig, three_columns


@pytest.fixture
def pretrained(saved_clip: Path) -> tuple[CLIPModel, CLIPProcessor]:
    return load_dual_encoder(str(saved_clip))


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return default_data_collator(rows)


def cache(dataset: Dataset, model: PreTrainedModel, folder: Path, modality: str = "image", **kwargs: Any) -> Dataset:
    options: dict[str, Any] = {"collator": collate, "cache_dir": folder, "progress": False, "batch_size": 5}
    return cache_tower_embeddings(dataset, model, modality, **(options | kwargs))


class Calls:
    """How often a tower runs."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        self.number = 0
        encoder.register_forward_pre_hook(self.count)

    def count(self, *_: Any) -> None:
        self.number += 1


# ---- What is cached ----


@pytest.mark.parametrize("modality", ["image", "text"])
def test_it_holds_what_the_projection_reads(model: PreTrainedModel, dataset: Dataset, tmp_path: Path, modality: str):
    cached = cache(dataset, model, tmp_path, modality)
    model.eval()
    inputs = make_inputs(16)
    encoder = {"image": model.vision_model, "text": model.text_model}[modality]
    names = ["pixel_values"] if modality == "image" else ["input_ids", "attention_mask"]
    with torch.no_grad():
        expected = encoder(**{name: inputs[name] for name in names}).pooler_output
    # Batches of other sizes may use other kernels.
    torch.testing.assert_close(cached[:][f"cached_{modality}"], expected, rtol=0, atol=1e-5)


def test_rows_and_other_columns_stay_as_they_are(pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path):
    model, processor = pretrained
    pairs = make_pairs(9).shuffle(seed=0).select(range(7))
    cached = cache(
        pairs, model, tmp_path, collator=ContrastiveCollator(processor=processor, columns={"images": "image"})
    )
    assert cached["caption"] == pairs["caption"]
    assert cached.column_names == ["image", "caption", "cached_image"]
    row = cached[3]
    assert isinstance(row["cached_image"], np.ndarray)
    assert row["cached_image"].dtype == np.float32
    assert row["image"].tobytes() == pairs[3]["image"].tobytes()
    assert cached.features["cached_image"].length == 32
    inputs = processor(images=[row["image"]], return_tensors="pt")
    with torch.no_grad():
        expected = model.eval().vision_model(**inputs).pooler_output[0]
    torch.testing.assert_close(torch.from_numpy(row["cached_image"]), expected, rtol=0, atol=1e-5)


def test_it_can_be_in_half_precision(model: PreTrainedModel, dataset: Dataset, tmp_path: Path):
    whole, half = (cache(dataset, model, tmp_path, dtype=dtype)[:]["cached_image"] for dtype in ("float32", "float16"))
    torch.testing.assert_close(half.float(), whole, rtol=1e-3, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_mode_of_a_model_and_its_gradients_are_left_alone(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    clip.train()
    clip.text_model.eval()
    cache(dataset, clip, tmp_path)
    assert clip.vision_model.encoder.training
    assert not clip.text_model.encoder.training
    assert torch.is_grad_enabled()


def test_towers_that_are_plain_modules_are_cached_too(tmp_path: Path):
    model, data = ThreeTowers(ThreeTowersConfig()), three_columns()
    cached = {m: cache_one(data, model, tmp_path, m) for m in ("audio", "text", "image")}
    with torch.no_grad():
        model.eval()
        expected = {
            "audio": model.audio_model(data[:]["audio"]),
            "text": model.text_encoder(data[:]["text"]),
            "image": model.vision_model(data[:]["image"]),
        }
    for m, x in expected.items():
        torch.testing.assert_close(cached[m], x, rtol=0, atol=1e-5)


def cache_one(data: Dataset, model: ThreeTowers, folder: Path, modality: str) -> Tensor:
    def named(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        # As `nn.Sequential` and `nn.Linear` call their input, and as the stack of the image tower does.
        return {
            "input": torch.stack([row[modality] for row in rows]),
            "image": torch.stack([r["image"] for r in rows]),
        }

    return cache(data, model, folder, modality, collator=named)[:][f"cached_{modality}"]


# ---- When it is computed ----


def test_it_is_computed_once(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    calls = Calls(clip.vision_model)
    first = cache(dataset, clip, tmp_path)[:]["cached_image"]
    assert calls.number == 4
    again = cache(dataset, copy.deepcopy(clip), tmp_path, batch_size=3)
    assert calls.number == 4
    assert torch.equal(again[:]["cached_image"], first)


def test_a_projection_that_was_trained_needs_no_new_one(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    calls = Calls(clip.vision_model)
    cache(dataset, clip, tmp_path)
    clip.visual_projection.weight.data.add_(1.0)
    clip.text_model.final_layer_norm.weight.data.add_(1.0)
    cache(dataset, clip, tmp_path)
    assert calls.number == 4


@pytest.mark.parametrize("what", ["weights", "rows", "dtype", "collator", "modality", "config"])
def test_it_is_computed_again_when_something_differs(clip: CLIPModel, dataset: Dataset, tmp_path: Path, what: str):
    cache(dataset, clip, tmp_path)
    options: dict[str, Any] = {}
    if what == "weights":
        clip.vision_model.post_layernorm.bias.data[0] += 1e-6
    elif what == "rows":
        dataset = dataset.select(range(15))
    elif what == "dtype":
        options["dtype"] = "float16"
    elif what == "collator":
        options["collator"] = default_data_collator
    elif what == "modality":
        options["modality"] = "text"
    else:
        clip.vision_model.config.hidden_act = "gelu"
    cache(dataset, clip, tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_settings_of_a_processor_count_and_its_use_does_not(
    pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path
):
    model, processor = pretrained
    pairs, calls = make_pairs(4), Calls(model.text_model)
    collator = ContrastiveCollator(processor=processor, columns={"text": "caption"})
    cache(pairs, model, tmp_path, "text", collator=collator)
    # Padding and truncation are kept in the tokenizer between calls.
    processor.tokenizer("a", padding="max_length", max_length=9, truncation=True)
    cache(pairs, model, tmp_path, "text", collator=collator)
    assert calls.number == 1
    processor.image_processor.image_mean = [0.0, 0.0, 0.0]
    cache(pairs, model, tmp_path, "text", collator=collator)
    assert calls.number == 2
    longer = ContrastiveCollator(
        processor=processor, columns={"text": "caption"}, processor_kwargs={"padding": "max_length", "max_length": 12}
    )
    cache(pairs, model, tmp_path, "text", collator=longer)
    assert calls.number == 3


def test_a_file_is_whole_or_not_there(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    seen: list[int] = []

    def breaks(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        seen.append(len(rows))
        if len(seen) == 3:
            raise RuntimeError("on purpose")
        return default_data_collator(rows)

    with pytest.raises(RuntimeError, match="on purpose"):
        cache(dataset, clip, tmp_path, collator=breaks)
    assert list(tmp_path.iterdir()) == []


# ---- Training from it ----


def trained(model: PreTrainedModel, dataset: Dataset, folder: Path, **options: Any) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    set_seed(0)
    trainer = make_trainer(model, dataset, folder, optim="sgd", max_steps=4, **options)
    trainer.train()
    return model.state_dict()


def without_inputs(cached: Dataset) -> Dataset:
    return cached.remove_columns("pixel_values")


def test_training_from_it_equals_training_with_the_frozen_tower(
    model: PreTrainedModel, dataset: Dataset, tmp_path: Path
):
    cached = without_inputs(cache(dataset, model, tmp_path / "cache"))
    options = {"freeze_towers": ["image"], "data_seed": 0}
    with_tower = trained(model, dataset, tmp_path, **options)
    from_cache = trained(model, cached, tmp_path, **options)
    for name, x in with_tower.items():
        torch.testing.assert_close(from_cache[name], x, rtol=0, atol=1e-5, msg=name)
    if hasattr(model, "visual_projection"):
        assert not torch.equal(from_cache["visual_projection.weight"], model.visual_projection.weight)


def test_the_tower_does_not_run(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    cached = without_inputs(cache(dataset, clip, tmp_path / "cache"))
    clip.vision_model.embeddings.forward = None
    trainer = make_trainer(clip, cached, tmp_path, freeze_towers=["image"])
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    assert "forward" not in vars(clip.vision_model)


def test_a_compiled_model_reads_it_for_each_batch(clip: CLIPModel):
    freeze_towers(clip, ["image"])
    compiled = torch.compile(clip, backend="eager")
    inputs = make_inputs(8) | {"cached_image": torch.randn(8, 16, generator=torch.Generator().manual_seed(0))}
    del inputs["pixel_values"]
    for rows in (slice(0, 4), slice(4, 8)):
        batch = {name: x[rows] for name, x in inputs.items()}
        with contrastive_forward(clip):
            expected = clip(**batch).embeds["image"]
        with contrastive_forward(compiled):
            torch.testing.assert_close(compiled(**batch).embeds["image"], expected, rtol=0, atol=1e-6)


def test_both_towers_can_be_cached(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    cached = cache(cache(dataset, clip, tmp_path), clip, tmp_path, "text")
    freeze_towers(clip, ["image", "text"])
    columns = cached.select_columns(["cached_image", "cached_text"])
    with torch.no_grad(), contrastive_forward(clip.eval()):
        whole, part = clip(**make_inputs(16)), clip(**columns[:])
    for m, x in whole.embeds.items():
        torch.testing.assert_close(part.embeds[m], x, rtol=0, atol=1e-5)


def test_a_collator_joins_it_with_the_other_columns(pretrained: tuple[CLIPModel, CLIPProcessor], tmp_path: Path):
    model, processor = pretrained
    pairs = make_pairs(16)
    images, text = (
        ContrastiveCollator(processor=processor, columns=columns)
        for columns in ({"images": "image"}, {"text": "caption"})
    )
    cached = cache(pairs, model, tmp_path / "cache", collator=images).remove_columns("image")
    args = make_trainer(model, cached, tmp_path, freeze_towers=["image"]).args
    collator = CachedTowerCollator(text, ("image",))
    trainer = ContrastiveTrainer(
        model, args, train_dataset=cached, eval_dataset=cached, data_collator=collator, processing_class=processor
    )
    trainer.train()
    from_cache = trainer.evaluate()["eval_loss"]
    trainer.data_collator = ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    assert trainer.evaluate(pairs)["eval_loss"] == pytest.approx(from_cache, rel=1e-4)
    with pytest.raises(ValueError, match=r"reads columns \['cached_text'\], but the examples have"):
        CachedTowerCollator(images, ("text",))([pairs[0]])


# ---- Errors ----


def test_the_cache_of_a_trained_tower_is_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    cached = without_inputs(cache(dataset, clip, tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"the image tower is trained.*`freeze_towers=\['image'\]`"):
        make_trainer(clip, cached, tmp_path).train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "audio"}, "`modality` names the tower 'audio'"),
        ({"dtype": "int8"}, "`dtype` must be one of"),
        (
            {"collator": lambda rows: {"other": torch.zeros(len(rows))}},
            r"reads \['pixel_values', .* makes \['other'\]",
        ),
        ({"collator": lambda rows: default_data_collator(rows[:2])}, "made 7 rows of the 16"),
    ],
)
def test_what_cannot_be_cached_is_refused(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        cache(**({"dataset": dataset, "model": clip, "folder": tmp_path} | options))


def test_a_column_is_not_replaced(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match="must have rows and no column 'cached_image'"):
        cache(cache(dataset, clip, tmp_path), clip, tmp_path)
    with pytest.raises(ValueError, match=r"must be a `datasets\.Dataset`"):
        cache(dataset.to_iterable_dataset(), clip, tmp_path)
