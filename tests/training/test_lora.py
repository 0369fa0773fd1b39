"""Adapters of `peft`: trained with the temperature, saved alone, loaded onto the base."""

import copy
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedModel, default_data_collator, set_seed

from hf_contrastive import ContrastiveTrainer
from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.testing import run_distributed
from hf_contrastive.towers.cache import cache_tower_embeddings
from hf_contrastive.training.adapters import SCALARS_FILE, add_adapter, load_adapter, load_scalars, save_scalars
from tests.conftest import make_dataset, make_inputs, tiny_clip, tiny_siglip
from tests.hub.server import LoopbackHub
from tests.towers.test_frozen import CHECKPOINTING
from tests.training.test_trainer import make_trainer


peft = pytest.importorskip("peft", reason="the package peft is not installed")

# A question of peft to transformers under an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

# Linear layers of every tiny model.
LAYERS = ["q_proj", "v_proj", "query", "value", "fc1"]
SAVES = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


def lora(**kwargs: Any) -> Any:
    return peft.LoraConfig(**({"r": 2, "lora_alpha": 4, "target_modules": LAYERS, "init_lora_weights": True} | kwargs))


def lora_trainer(
    model: PreTrainedModel, dataset: Dataset, folder: Path, config: Any = None, **kwargs: Any
) -> ContrastiveTrainer:
    args = make_trainer(copy.deepcopy(model), dataset, folder, **kwargs).args
    set_seed(0)
    wrapped = isinstance(model, peft.PeftModel)
    return ContrastiveTrainer(
        model,
        args,
        train_dataset=dataset,
        eval_dataset=dataset,
        peft_config=None if wrapped else (config or lora()),
    )


@torch.no_grad()
def encode(model: nn.Module) -> EncoderOutput:
    model.eval()
    with contrastive_forward(model):
        return model(**make_inputs(6))


def assert_same(actual: EncoderOutput, expected: EncoderOutput, tolerance: float) -> None:
    for m, x in expected.embeds.items():
        torch.testing.assert_close(actual.embeds[m], x, rtol=0, atol=tolerance)
    assert actual.logit_scale.item() == pytest.approx(expected.logit_scale.item(), rel=tolerance)
    if expected.logit_bias is not None:
        assert actual.logit_bias.item() == pytest.approx(expected.logit_bias.item(), rel=tolerance, abs=tolerance)


def loss_for(model: PreTrainedModel) -> str:
    return "siglip" if hasattr(model, "logit_bias") else "clip"


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in model.state_dict().items()}


def test_adapter_temperature_and_bias_are_trained_and_nothing_else(
    model: PreTrainedModel, dataset: Dataset, tmp_path: Path
):
    trainer = lora_trainer(model, dataset, tmp_path, loss=loss_for(model))
    before = state(trainer.model)
    trainer.train()
    changed = {name for name, x in state(trainer.model).items() if not torch.equal(x, before[name])}
    own = {name for name in changed if "lora_" not in name}
    expected = {"logit_scale", "logit_bias"} if hasattr(model, "logit_bias") else {"logit_scale"}
    assert {name.removeprefix("base_model.model.") for name in own} == expected
    assert any("lora_B" in name for name in changed)


def test_a_wrapped_model_trains_like_one_that_the_trainer_wraps(
    model: PreTrainedModel, dataset: Dataset, tmp_path: Path
):
    ends = []
    for wrap in (False, True):
        twin = copy.deepcopy(model)
        set_seed(0)
        trainer = lora_trainer(
            peft.get_peft_model(twin, lora()) if wrap else twin, dataset, tmp_path, loss=loss_for(model)
        )
        # Whatever the adapter starts from.
        for name, p in trainer.model.named_parameters():
            if "lora_A" in name:
                torch.nn.init.constant_(p, 0.1)
        trainer.train()
        ends.append(state(trainer.model))
    for name, x in ends[0].items():
        assert torch.equal(ends[1][name], x), name


def test_only_the_adapter_is_saved_with_temperature_and_bias(model: PreTrainedModel, dataset: Dataset, tmp_path: Path):
    trainer = lora_trainer(model, dataset, tmp_path, loss=loss_for(model))
    trainer.train()
    trainer.save_model()
    assert not (tmp_path / "model.safetensors").exists()
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    scalars = load_file(tmp_path / SCALARS_FILE)
    base = trainer.model.get_base_model()
    assert scalars.keys() == {name for name in ("logit_scale", "logit_bias") if hasattr(base, name)}
    assert all(torch.equal(x, getattr(base, name)) for name, x in scalars.items())


def test_a_card_that_is_there_stays_when_an_adapter_is_saved(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = lora_trainer(clip, dataset, tmp_path)
    card = "---\nlicense: mit\ntags:\n- mine\n---\n# Mine\n"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    trainer.save_model()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card


def test_the_adapter_loaded_onto_the_base_gives_the_same(model: PreTrainedModel, dataset: Dataset, tmp_path: Path):
    base = copy.deepcopy(model)
    trainer = lora_trainer(model, dataset, tmp_path, loss=loss_for(model))
    trainer.train()
    trainer.save_model()
    expected = encode(trainer.model)
    assert expected.logit_scale != encode(base).logit_scale
    loaded = load_adapter(base, tmp_path)
    assert_same(encode(loaded), expected, tolerance=1e-6)
    assert not any(p.requires_grad for p in loaded.parameters())
    # Merged, it is a plain model with the temperature of the run.
    assert_same(encode(loaded.merge_and_unload()), expected, tolerance=1e-5)


def test_a_loaded_adapter_can_be_trained_further(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    base = copy.deepcopy(clip)
    trainer = lora_trainer(clip, dataset, tmp_path)
    trainer.train()
    trainer.save_model()
    loaded = load_adapter(base, tmp_path, is_trainable=True)
    trained = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    again = lora_trainer(loaded, dataset, tmp_path)
    before = state(loaded)
    again.train()
    assert {name for name, x in state(loaded).items() if not torch.equal(x, before[name])} == trained


def test_projections_can_be_trained_whole(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    base = copy.deepcopy(clip)
    config = lora(modules_to_save=["visual_projection", "text_projection"])
    rates = {"tower_learning_rates": {"image_projection": 0.1}, "layer_decay": 0.5}
    trainer = lora_trainer(clip, dataset, tmp_path, config, **rates)
    trainer.train()
    trainer.save_model()
    (rate,) = [g["initial_lr"] for g in trainer.create_optimizer().param_groups if "image projection" in g["name"]]
    assert rate == 0.1
    assert_same(encode(load_adapter(base, tmp_path)), encode(trainer.model), tolerance=1e-6)


def test_an_adapter_in_a_frozen_tower_is_frozen(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = lora_trainer(clip, dataset, tmp_path, freeze_towers=["image"])
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained
    assert not [name for name in trained if "vision_model" in name]
    trainer.train()


def test_gradient_checkpointing_changes_nothing(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    ends = []
    for checkpointing in (False, True):
        options = {"optim": "sgd", "data_seed": 1, CHECKPOINTING: checkpointing}
        trainer = lora_trainer(copy.deepcopy(clip), dataset, tmp_path, **options)
        before = state(trainer.model)
        trainer.train()
        ends.append(state(trainer.model))
    assert any(not torch.equal(x, before[name]) for name, x in ends[1].items() if "lora_B" in name)
    for name, x in ends[0].items():
        torch.testing.assert_close(ends[1][name], x, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("averaged", [{}, {"ema_decay": 0.5, "evaluate_ema": True}], ids=["plain", "ema"])
def test_a_resumed_run_is_the_uninterrupted_one(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, averaged: dict[str, Any]
):
    base = copy.deepcopy(clip)
    whole = lora_trainer(clip, dataset, tmp_path, **SAVES, **averaged)
    whole.train()
    resumed = lora_trainer(base, dataset, tmp_path, **SAVES, **averaged)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, x in state(whole.model).items():
        assert torch.equal(state(resumed.model)[name], x), name
    if whole.ema is not None:
        assert all("lora_" in name or name.endswith("logit_scale") or "running" in name for name in whole.ema.averages)
        for name, x in whole.ema.averages.items():
            assert torch.equal(resumed.ema.averages[name], x), name


def test_the_best_adapter_comes_with_its_temperature(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "metric_for_best_model": "rank"}
    trainer = lora_trainer(clip, dataset, tmp_path, **SAVES, **best, greater_is_better=True)
    trainer.compute_metrics = lambda _: {"rank": -trainer.state.global_step}
    trainer.train()
    saved = load_file(tmp_path / "checkpoint-2" / SCALARS_FILE)["logit_scale"]
    assert trainer.model.get_base_model().logit_scale == saved
    assert saved != load_file(tmp_path / "checkpoint-4" / SCALARS_FILE)["logit_scale"]


def test_an_adapter_without_scalars_keeps_those_of_the_base(
    clip: CLIPModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    peft.get_peft_model(copy.deepcopy(clip), lora()).save_pretrained(tmp_path)
    loaded = load_adapter(clip, tmp_path)
    assert loaded.get_base_model().logit_scale == clip.logit_scale
    assert f"has no {SCALARS_FILE}" in caplog.text


# ---- Processes ----


def train_an_adapter_from_a_cache(folder: str) -> None:
    set_seed(0)
    model, data = tiny_clip(), make_dataset(16)
    base = copy.deepcopy(model)
    options = {"per_device_train_batch_size": 4, "ema_decay": 0.5, "freeze_towers": ["image"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        args = make_trainer(copy.deepcopy(model), data, Path(folder), **SAVES, **options).args
        with args.main_process_first():
            cached = cache_tower_embeddings(
                data, model, "image", default_data_collator, cache_dir=f"{folder}/cache", progress=False
            )
        trainer = ContrastiveTrainer(
            model, args, train_dataset=cached.remove_columns("pixel_values"), peft_config=lora()
        )
        trainer.train()
        for name, p in trainer.model.named_parameters():
            gathered = trainer.accelerator.gather(p.detach().unsqueeze(0))
            assert torch.equal(gathered[0], gathered[1]), name
        assert len(list(Path(folder, "cache").iterdir())) == 1
        assert_same(encode(load_adapter(base, f"{folder}/checkpoint-4")), encode(trainer.model), tolerance=1e-6)
        end = state(trainer.model)
        trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-2")
        for name, x in state(trainer.model).items():
            assert torch.equal(x, end[name]), name


@pytest.mark.distributed
@pytest.mark.timeout(120)
def test_two_processes_train_save_and_resume_one_adapter(tmp_path: Path):
    run_distributed(train_an_adapter_from_a_cache, str(tmp_path))


# ---- Hub ----


PUSH = """
import copy, json, torch
from huggingface_hub import HfApi
from transformers import CLIPModel
from tests.conftest import make_dataset, tiny_clip
from tests.training.test_lora import encode, lora
from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.training.adapters import load_adapter

torch.manual_seed(0)
tiny_clip().save_pretrained({folder!r} + "_base")
model = CLIPModel.from_pretrained({folder!r} + "_base")
base = copy.deepcopy(model)
args = ContrastiveTrainingArguments(
    {folder!r}, use_cpu=True, disable_tqdm=True, report_to="none", loss="clip", per_device_train_batch_size=8,
    max_steps=2, learning_rate=1e-2, push_to_hub=True, hub_model_id="tester/adapter", save_strategy="steps",
    save_steps=2, hub_always_push=True,
)
trainer = ContrastiveTrainer(model, args, train_dataset=make_dataset(), peft_config=lora())
trainer.train()
trainer._finish_current_push()
during = sorted(path for path in HfApi().list_repo_files("tester/adapter"))
trainer.push_to_hub()
expected, found = encode(trainer.model), encode(load_adapter(base, "tester/adapter"))
# Here it knows its base, and is loaded on it.
assert json.load(open({folder!r} + "/adapter_config.json"))["base_model_name_or_path"] == {folder!r} + "_base"
load_adapter(copy.deepcopy(base), {folder!r})
gap = max(float((expected.embeds[m] - found.embeds[m]).abs().max()) for m in expected.embeds)
print(json.dumps([gap, float(expected.logit_scale), float(found.logit_scale), during]))
"""


def test_the_adapter_is_pushed_and_loaded_from_the_hub(hub: LoopbackHub, tmp_path: Path):
    process = hub.run(PUSH.format(folder=str(tmp_path / "run")), tmp_path)
    assert process.returncode == 0, process.stderr
    gap, expected, found, during = json.loads(process.stdout.splitlines()[-1])
    assert gap <= 1e-6
    assert found == pytest.approx(expected, rel=1e-6)
    for files in (set(during), hub.files("tester/adapter").keys()):
        assert {"adapter_config.json", "adapter_model.safetensors", SCALARS_FILE} <= files
        assert "model.safetensors" not in files
    for name, content in hub.files("tester/adapter").items():
        assert str(tmp_path).encode() not in content, name


# ---- Errors ----


def test_a_wrapped_model_and_a_config_are_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    args = make_trainer(copy.deepcopy(clip), dataset, tmp_path).args
    wrapped = peft.get_peft_model(clip, lora())
    with pytest.raises(ValueError, match="wrapped by `peft` already"):
        ContrastiveTrainer(wrapped, args, train_dataset=dataset, peft_config=lora())


def test_an_adapter_that_would_be_saved_without_the_temperature_is_refused(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path
):
    clip.add_adapter(lora())
    with pytest.raises(ValueError, match="saved without temperature and bias"):
        make_trainer(clip, dataset, tmp_path)


def test_scalars_of_another_model_are_refused(clip: CLIPModel, tmp_path: Path):
    save_scalars(tiny_siglip(), tmp_path)
    with pytest.raises(
        ValueError, match=r"holds \['logit_bias', 'logit_scale'\], but the model has \['logit_scale'\]"
    ):
        load_scalars(clip, tmp_path / SCALARS_FILE)


def test_the_lack_of_peft_is_told_with_what_to_install(clip: CLIPModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"need the package `peft`: pip install 'hf-contrastive\[peft\]'"):
        add_adapter(clip, None)
