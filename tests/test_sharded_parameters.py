"""Trainings whose parameters are sharded, against one process."""

import importlib.util
import weakref
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import CLIPModel, CLIPTextConfig
from transformers.integrations import deepspeed

from hf_contrastive import MultiEncoder, load_dual_encoder
from hf_contrastive.distributed import gather_batch, rank
from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.losses import CLIP, total
from hf_contrastive.sharded_parameters import (
    clamp_max,
    full_value,
    refuse_another_launch,
    scalars_to_vectors,
    vectors_to_scalars,
    without_one_embedding,
)
from hf_contrastive.testing import batch_of, run_distributed
from tests.conftest import LAYERS, TEXT, make_inputs, tiny_clip, tiny_siglip
from tests.training.parity import Setting, make_model
from tests.training.sharded_training import (
    STEPS,
    evaluate,
    losses,
    make_sharded_trainer,
    train_in_half_precision,
    train_sharded,
)


class ZeRO3:
    """What `transformers` asks the configuration of DeepSpeed for."""

    config: ClassVar[dict[str, Any]] = {"zero_optimization": {"stage": 3}}

    def is_zero3(self) -> bool:
        return True


def test_dual_encoders_and_towers_are_loaded_whole_where_deepspeed_would_cut_them(
    saved_clip: Path, monkeypatch: pytest.MonkeyPatch
):
    config = ZeRO3()
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", weakref.ref(config))
    model, _ = load_dual_encoder(str(saved_clip))
    joined = MultiEncoder.from_towers({"image": str(saved_clip), "text": CLIPTextConfig(**LAYERS, **TEXT)}, width=8)
    for one in (model, joined):
        assert all(p.numel() and not hasattr(p, "ds_id") for p in one.parameters())
    assert deepspeed.is_deepspeed_zero3_enabled()


def test_scalars_become_vectors_and_come_back_as_they_were(clip: CLIPModel):
    before = {name: x.clone() for name, x in clip.state_dict().items()}
    clip.logit_scale.requires_grad_(False)
    names = scalars_to_vectors(clip)
    assert names == ["logit_scale"]
    assert clip.logit_scale.shape == (1,)
    assert not clip.logit_scale.requires_grad
    after = vectors_to_scalars(clip.state_dict(), names)
    for name, x in before.items():
        torch.testing.assert_close(after[name], x, rtol=0, atol=0)


def test_a_scalar_in_two_places_stays_one_parameter():
    model = nn.Module()
    model.inner = nn.Module()
    model.scale = model.inner.scale = nn.Parameter(torch.tensor(2.0))
    assert sorted(scalars_to_vectors(model)) == ["inner.scale", "scale"]
    assert model.scale is model.inner.scale


def test_a_model_with_two_towers_says_that_it_has_no_single_embedding(clip: CLIPModel):
    with pytest.raises(NotImplementedError):
        clip.get_input_embeddings()
    without_one_embedding(clip)
    assert clip.get_input_embeddings() is None
    siglip = tiny_siglip()
    without_one_embedding(siglip)
    assert siglip.get_input_embeddings() is None


def test_a_model_without_scalars_is_left_alone():
    assert scalars_to_vectors(tiny_siglip()) == []


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_sharding_that_accelerate_leaves_out_is_refused(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=rf"ACCELERATE_USE_{name}=true\), but Accelerate would train without it"):
        refuse_another_launch(num_processes=1, fsdp_version=None, deepspeed=False)
    refuse_another_launch(num_processes=1, fsdp_version=2 if name == "FSDP" else None, deepspeed=name == "DEEPSPEED")


def test_the_first_fsdp_is_refused():
    with pytest.raises(ValueError, match=r"FSDP version 1 flattens parameters.* Set `fsdp_version: 2`"):
        refuse_another_launch(num_processes=2, fsdp_version=1, deepspeed=False)


def test_processes_that_would_train_alone_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"started 2 processes, but each would train alone .*`use_cpu=True`"):
        refuse_another_launch(num_processes=1, fsdp_version=None, deepspeed=False)
    refuse_another_launch(num_processes=2, fsdp_version=None, deepspeed=False)


# ---- Bare FSDP2 ----


def check_bare_fsdp2() -> None:
    inputs = make_inputs(8)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    mine = slice(rank() * 4, rank() * 4 + 4)
    torch.manual_seed(0)
    plain = tiny_clip().double()
    sharded = tiny_clip().double()
    sharded.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="fully_shard doesn't support scalar parameters"):
        fully_shard(tiny_clip())
    scalars_to_vectors(sharded)
    for layer in (*sharded.text_model.encoder.layers, *sharded.vision_model.encoder.layers):
        fully_shard(layer)
    fully_shard(sharded)

    with contrastive_forward(plain):
        total(CLIP()(batch_of(plain(**inputs)))).backward()
    with contrastive_forward(sharded):
        total(CLIP()(gather_batch(sharded(**{name: x[mine] for name, x in inputs.items()})))).backward()
    wanted = dict(plain.named_parameters())
    for name, parameter in sharded.named_parameters():
        assert isinstance(parameter, DTensor), name
        gradient = parameter.grad.full_tensor()
        torch.testing.assert_close(gradient.view_as(wanted[name]), wanted[name].grad, rtol=0, atol=1e-12)

    clamp_max(sharded.logit_scale, 1.5)
    assert full_value(sharded.logit_scale).tolist() == [1.5]


@pytest.mark.distributed
def test_bare_fsdp2_has_the_gradients_of_one_process():
    run_distributed(check_bare_fsdp2, num_processes=2)


# ---- The trainer ----


@pytest.mark.distributed
def test_temperature_and_bias_stay_in_single_precision_where_the_forward_pass_is_in_half(tmp_path: Path):
    run_distributed(train_in_half_precision, str(tmp_path), num_processes=2)


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [
        ("fsdp2", torch.float64, 1e-9),
        # DeepSpeed computes in single precision: logits up to 15, and Adam steps of 1e-3.
        ("zero1", torch.float32, 1e-4),
        ("zero2", torch.float32, 1e-4),
        ("zero3", torch.float32, 1e-4),
    ],
)
def test_a_sharded_training_is_that_of_one_process(kind: str, dtype: torch.dtype, tolerance: float, tmp_path: Path):
    if kind.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed.")
    setting = Setting("clip", "adamw", dtype)
    make_model(setting).save_pretrained(tmp_path / "start")
    one = make_sharded_trainer("ddp", setting, str(tmp_path), ema_decay=0.5)
    one.train()
    eval_loss = evaluate(one, averaged=False)["eval_loss"]

    run_distributed(train_sharded, kind, dtype, str(tmp_path), num_processes=2)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    # The Trainer sums losses in single precision.
    torch.testing.assert_close(found["losses"], torch.tensor(losses(one)), rtol=0, atol=max(1e-6, 10 * tolerance))
    torch.testing.assert_close(found["eval_loss"], torch.tensor(eval_loss), rtol=0, atol=max(1e-6, 10 * tolerance))
    assert len(found["losses"]) == STEPS

    # What is saved has the shapes of the class and the weights of one process.
    saved = CLIPModel.from_pretrained(tmp_path / "saved", dtype=dtype)
    assert saved.logit_scale.shape == ()
    for name, x in one.model.state_dict().items():
        difference = float((saved.state_dict()[name] - x).abs().max())
        assert difference <= tolerance, f"{name}: {difference:.3g}"
    assert found["eval_scale"].item() == pytest.approx(saved.logit_scale.exp().item(), rel=1e-6)

    if kind != "zero3":
        averaged = evaluate(one, averaged=True)["eval_loss"]
        assert found["averaged_loss"].item() == pytest.approx(averaged, abs=max(1e-6, 10 * tolerance))
        assert abs(averaged - eval_loss) > 100 * max(1e-6, tolerance)
        for file in ("checkpoint-4/ema.safetensors", "resumed.safetensors"):
            averages = load_file(tmp_path / file)
            assert {name: x.shape for name, x in averages.items()} == {n: x.shape for n, x in one.ema.averages.items()}
            for name, x in one.ema.averages.items():
                # They are in single precision.
                torch.testing.assert_close(averages[name], x, rtol=0, atol=max(1e-6, tolerance))

    torch.testing.assert_close(found["resumed"], found["losses"], rtol=0, atol=1e-6)
    # exp(2.66) at the start, then at the bound at once and for good.
    assert found["bounded"].max() <= 15.0 * (1 + 1e-6)
    assert found["bounded_at_end"].item() == pytest.approx(15.0, rel=1e-6)
    if kind.startswith("zero"):
        assert found["optimizer's copy"].item() == pytest.approx(15.0, rel=1e-6)
