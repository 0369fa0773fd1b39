"""What the trainer does with any model, it does with joined towers."""

import importlib.util
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoModel, AutoProcessor, CLIPImageProcessor, default_data_collator, set_seed

from hf_contrastive import ContrastiveCollator, ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.models.from_scratch import train_tokenizer
from hf_contrastive.testing import run_distributed
from hf_contrastive.towers.cache import cache_tower_embeddings
from hf_contrastive.towers.frozen import freeze_towers
from tests.export.cases import encoder
from tests.models.test_multi_encoder import config_of, image_and_text, two_inputs
from tests.training.parity import Setting
from tests.training.sharded_training import make_sharded_trainer
from tests.training.test_trainer import make_trainer


def rows(number: int = 16) -> Dataset:
    return Dataset.from_dict({name: x.tolist() for name, x in two_inputs(number).items()}).with_format("torch")


SETTING = Setting("clip", "adamw", torch.float32)


def still(**kwargs: Any) -> MultiEncoder:
    """A model without dropout."""
    return _still(image_and_text(**kwargs))


def without_dropout(folder: Path) -> MultiEncoder:
    return _still(AutoModel.from_pretrained(folder))


def _still(model: Any) -> MultiEncoder:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def train(model: MultiEncoder, folder: Path, dataset: Dataset | None = None, **kwargs: Any) -> ContrastiveTrainer:
    trainer = make_trainer(model, rows() if dataset is None else dataset, folder, max_steps=2, **kwargs)
    trainer.train()
    return trainer


def state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def test_what_is_trained_is_loaded_by_auto_model(tmp_path: Path):
    model = image_and_text(pooling={"text": "attention"}, head="mlp")
    before = state(model)
    train(model, tmp_path).save_model(str(tmp_path / "end"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])} == trained
    loaded = AutoModel.from_pretrained(tmp_path / "end")
    assert all(torch.equal(x, loaded.state_dict()[name]) for name, x in model.cpu().state_dict().items())


@pytest.mark.parametrize(
    "towers",
    [{"query": "bert", "document": "bert"}, {"image": "vit", "other": 6}, {"image": "vit", "query": "bert"}],
)
def test_a_processor_of_any_number_of_texts_is_saved_with_the_model(towers: dict[str, Any], tmp_path: Path):
    given = {name: config_of(x) if isinstance(x, str) else x for name, x in towers.items()}
    for name in {"query", "document"} & set(given):
        given[name].vocab_size = 300
    model = MultiEncoder.from_towers(given, width=12)
    texts = train_tokenizer(["a red picture", "a green one"], vocab_size=300, max_tokens=12)
    pictures = CLIPImageProcessor(size={"height": 8, "width": 8}, do_center_crop=False)
    parts = {name: pictures if name == "image" else texts for name, x in given.items() if x != 6}
    processor = MultiEncoderProcessor.for_model(model, parts)
    columns = {"query": "a red", "document": "a red picture", "image": Image.new("RGB", (8, 8)), "other": [1.0] * 6}
    dataset = [{name: columns[name] for name in towers}] * 8
    args = ContrastiveTrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none", save_steps=1)
    collator = ContrastiveCollator(processor=processor)
    trainer = ContrastiveTrainer(
        model, args, train_dataset=dataset, data_collator=collator, processing_class=processor
    )
    trainer.train()
    # The tokens of one tower's tokenizer are none of the model's.
    assert not [name for name in ("bos", "eos", "pad") if getattr(model.config, f"{name}_token_id", None) is not None]
    assert trainer.processing_class is processor
    saved = AutoProcessor.from_pretrained(tmp_path / "checkpoint-1")
    assert list(saved.modalities) == sorted(towers)


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_towers_whose_weights_have_other_names_in_files_are_resumed(name: str, tmp_path: Path):
    def run(folder: str, resumed: str | None = None) -> dict[str, Tensor]:
        set_seed(0)
        model = MultiEncoder.from_towers({"image": config_of(name), "other": 6}, width=12)
        pixels = torch.randn(16, 3, 16, 16) if name == "swin" else torch.randn(16, 3, 8, 8)
        dataset = Dataset.from_dict({"pixel_values": pixels.tolist(), "other_features": torch.randn(16, 6).tolist()})
        options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}
        trainer = make_trainer(model, dataset.with_format("torch"), tmp_path / folder, **options)
        trainer.train(resume_from_checkpoint=resumed)
        return state(model)

    whole, cut = run("whole"), run("cut", str(tmp_path / "whole" / "checkpoint-2"))
    assert {key for key, x in whole.items() if not torch.equal(x, cut[key])} == set()


def test_the_best_weights_are_loaded_in_the_end(tmp_path: Path):
    options = {
        "save_strategy": "steps",
        "save_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "learning_rate": 10.0,
    }
    model, calls = image_and_text(), count(1.0)
    trainer = train(
        model,
        tmp_path,
        load_best_model_at_end=True,
        metric_for_best_model="step",
        greater_is_better=False,
        compute_metrics=lambda _: {"step": next(calls)},
        **options,
    )
    best = AutoModel.from_pretrained(trainer.state.best_model_checkpoint)
    assert trainer.state.best_global_step == 1
    assert {key for key, x in state(best).items() if not torch.equal(x, model.cpu().state_dict()[key])} == set()


@pytest.mark.parametrize("frozen", [None, ["image"]])
def test_chunks_train_as_the_whole_batch_does(frozen: list[str] | None, tmp_path: Path):
    states = []
    for chunk in (None, 2):
        model = still()
        train(
            model, tmp_path / str(chunk), encode_chunk_size=chunk, freeze_towers=frozen, optim="sgd", learning_rate=0.1
        )
        states.append(state(model))
    for name, x in states[0].items():
        torch.testing.assert_close(states[1][name], x, rtol=0, atol=1e-5)


def test_a_locked_tower_stays_and_its_layers_have_rates(tmp_path: Path):
    model = image_and_text()
    before = state(model)
    trainer = train(
        model,
        tmp_path,
        freeze_towers=["image"],
        tower_learning_rates={"text": 1e-3},
        layer_decay=0.5,
        learning_rate=1e-4,
    )
    changed = {name.split(".")[0] for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"image_projection", "text_model", "text_projection", "logit_scale"}
    rates = {group["name"].partition(",")[0]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["text projection"] == 1e-3
    assert rates["text layer.1"] == 5e-4
    assert rates["text embeddings"] == pytest.approx(1e-3 / 8)


def test_the_own_head_of_a_shared_tower_has_a_rate(tmp_path: Path):
    set_seed(0)
    heads = {"query": "linear", "document": "mlp"}
    model = MultiEncoder.from_towers({"query": config_of("bert")}, shared={"document": "query"}, head=heads, width=12)
    ids = two_inputs(16)["input_ids"]
    columns = {"query_input_ids": ids.tolist(), "document_input_ids": ids.flip(1).tolist()}
    dataset = Dataset.from_dict(columns).with_format("torch")
    rates = {"query": 1e-3, "document_projection": 1e-2}
    trainer = train(model, tmp_path, dataset, tower_learning_rates=rates, learning_rate=1e-4)
    found = {group["name"].partition(",")[0]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert found == {"query": 1e-3, "document projection": 1e-2, "other": 1e-4}
    before = state(model)
    # Without one it has that of its tower.
    options = {"tower_learning_rates": {"query": 1e-3}, "freeze_projections": ["query"], "freeze_towers": ["query"]}
    trainer = train(model, tmp_path, dataset, **options)
    found = {group["name"].partition(",")[0]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert found["document projection"] == 1e-3
    changed = {name.split(".")[0] for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"document_projection", "logit_scale"}
    freeze_towers(model, projections=["document"])
    assert not any(p.requires_grad for p in model.document_projection.parameters())


@pytest.mark.parametrize("kwargs", [{}, {"head": {"image": "none"}, "width": 16}])
def test_the_output_of_a_locked_tower_is_read_from_a_cache(kwargs: dict[str, Any], tmp_path: Path):
    set_seed(0)
    model = MultiEncoder.from_towers(
        {"image": config_of("vit"), "text": config_of("bert")}, **({"width": 12} | kwargs)
    )
    freeze_towers(model, ["image"])
    cached = cache_tower_embeddings(rows(), model, "image", default_data_collator, cache_dir=tmp_path, progress=False)
    inputs = two_inputs(16)
    with torch.no_grad(), contrastive_forward(model):
        expected = model(**inputs).embeds["image"]
        model.image_model.forward = None
        given = {"cached_image": torch.stack([torch.as_tensor(row["cached_image"]) for row in cached])}
        found = model(**given, input_ids=inputs["input_ids"]).embeds["image"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_cache_of_a_tower_that_is_trained_is_refused():
    model = image_and_text()
    with contrastive_forward(model), pytest.raises(ValueError, match="the image tower is trained: its output changes"):
        model(cached_image=torch.randn(4, 16), input_ids=two_inputs()["input_ids"])


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the package peft is not installed")
@pytest.mark.filterwarnings("ignore")
def test_adapters_train_on_all_towers(tmp_path: Path):
    from peft import LoraConfig

    from hf_contrastive import load_adapter

    lora = LoraConfig(r=2, target_modules=["query", "value", "q_proj", "v_proj"])
    args = ContrastiveTrainingArguments(str(tmp_path), loss="clip", max_steps=2, use_cpu=True, report_to="none")
    trainer = ContrastiveTrainer(image_and_text(), args, train_dataset=rows(), peft_config=lora)
    before = state(trainer.model)
    trainer.train()
    changed = {name for name, x in trainer.model.state_dict().items() if not torch.equal(x, before[name])}
    assert {"image" in name for name in changed if "lora_B" in name} == {True, False}
    assert all("lora" in name or "logit_scale" in name for name in changed)
    trainer.save_model(str(tmp_path / "adapter"))
    again = load_adapter(image_and_text(), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected, found = trainer.model.cpu().eval()(**two_inputs()), again(**two_inputs())
    torch.testing.assert_close(found["image_embeds"], expected["image_embeds"])


@pytest.mark.distributed
def test_two_processes_train_without_a_search_for_unused_parameters(tmp_path: Path):
    run_distributed(train_on_a_process, str(tmp_path), num_processes=2)


def train_on_a_process(folder: str) -> None:
    model = MultiEncoder.from_towers(
        {"image": config_of("dinov2"), "text": config_of("bert")}, width=12, logit_bias_init_value=-1.0
    )
    train(model, Path(folder), ddp_find_unused_parameters=False)


@pytest.mark.distributed
def test_joined_towers_train_cut_into_shards_as_on_one_process(tmp_path: Path):
    still().save_pretrained(tmp_path / "start")
    one = make_sharded_trainer("ddp", SETTING, str(tmp_path), without_dropout(tmp_path / "start"))
    one.train()
    run_distributed(train_shards, str(tmp_path), num_processes=2)
    found = AutoModel.from_pretrained(tmp_path / "saved").state_dict()
    for name, x in one.model.state_dict().items():
        # Four steps in single precision.
        torch.testing.assert_close(found[name], x, rtol=0, atol=2e-6)


def train_shards(folder: str) -> None:
    trainer = make_sharded_trainer("fsdp2", SETTING, folder, without_dropout(Path(folder, "start")))
    trainer.train()
    assert all(isinstance(x, DTensor) for x in trainer.model.parameters())
    trainer.save_model(f"{folder}/saved")


def with_processor() -> MultiEncoder:
    return encoder({"image": "vit", "text": "bert"})


def is_processor_of(folder: Path, model: MultiEncoder) -> bool:
    found, expected = AutoProcessor.from_pretrained(folder)(text=["a red"]), model.processor(text=["a red"])
    return type(found) is type(expected) and all(torch.equal(x, found[name]) for name, x in expected.items())


def test_checkpoints_and_the_model_have_its_processor(tmp_path: Path):
    model = with_processor()
    trainer = train(model, tmp_path, save_strategy="steps", save_steps=1)
    trainer.save_model(str(tmp_path / "end"))
    assert trainer.processing_class is model.processor
    assert is_processor_of(tmp_path / "end", model)
    assert is_processor_of(tmp_path / "checkpoint-1", model)
    loaded = AutoModel.from_pretrained(tmp_path / "end")
    # Other threads may add up in another order.
    torch.testing.assert_close(loaded.encode_text(["a"]), model.cpu().encode_text(["a"]), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_has_the_processor_of_its_model(tmp_path: Path):
    peft = pytest.importorskip("peft")
    model = with_processor()
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True)
    trainer = ContrastiveTrainer(model, args, peft_config=peft.LoraConfig(target_modules=["key"]))
    trainer.save_model(str(tmp_path / "end"))
    assert is_processor_of(tmp_path / "end", model)


def test_a_processor_that_was_given_is_the_one(tmp_path: Path):
    model, other = with_processor(), with_processor().processor
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True)
    assert ContrastiveTrainer(model, args, processing_class=other).processing_class is other


def test_a_model_is_saved_with_the_processor_that_it_was_loaded_with(tmp_path: Path):
    model = with_processor()
    model.save_pretrained(tmp_path / "first")
    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    assert is_processor_of(tmp_path / "second", model)
    train(AutoModel.from_pretrained(tmp_path / "first"), tmp_path / "out").save_model(str(tmp_path / "third"))
    assert is_processor_of(tmp_path / "third", model)


def test_a_model_without_processor_is_saved_all_the_same(tmp_path: Path):
    image_and_text().save_pretrained(tmp_path / "first")
    model = AutoModel.from_pretrained(tmp_path / "first")
    model.save_pretrained(tmp_path / "second")
    assert not (tmp_path / "second" / "processor_config.json").exists()
    with pytest.raises(ValueError, match="has no processor yet: set"):
        model.encode_text(["a"])


def test_what_is_pushed_is_not_without_processor(tmp_path: Path):
    with pytest.raises(ValueError, match=r"`model.push_to_hub\(repo_id\)`"):
        with_processor().save_pretrained(tmp_path, push_to_hub=True)
