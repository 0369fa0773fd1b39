"""Trainings sharded on two CPU processes: DeepSpeed as the launcher would set it, FSDP2 past Accelerate's refusal of CPUs."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import CLIPModel

from hf_contrastive import ContrastiveBatch, ContrastiveTrainer
from hf_contrastive.distributed import rank
from tests.training.parity import Setting, make_model, make_parity_trainer


STEPS = 4
# Adam divides by the gradient's size, which for a bias without effect is rounding; a larger epsilon forgives it.
OPTIONS: dict[str, Any] = {"max_steps": STEPS, "adam_epsilon": 1e-4, "logit_scale_learning_rate": 1e-2}
AVERAGE = {"ema_decay": 0.5, "eval_strategy": "steps", "eval_steps": 1, "evaluate_ema": True}


class FSDP2OnCPU(ContrastiveTrainer):
    """Accelerate shards on accelerators alone, though its code and torch's run on CPU: tell it so."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            reshard_after_forward=True,
            state_dict_type="FULL_STATE_DICT",
        )
        if self.accelerator.mixed_precision != "no":
            plugin.set_mixed_precision(self.accelerator.mixed_precision)
        for state in (PartialState, AcceleratorState):
            state._shared_state |= {"distributed_type": DistributedType.FSDP, "fsdp_plugin": plugin}
        self.accelerator.state.__dict__.update(AcceleratorState._shared_state)
        self.is_fsdp_enabled = True


def load(setting: Setting, folder: str) -> CLIPModel:
    return CLIPModel.from_pretrained(f"{folder}/start", dtype=setting.dtype)


def make_sharded_trainer(
    kind: str, setting: Setting, folder: str, model: CLIPModel | None = None, **options: Any
) -> ContrastiveTrainer:
    """A trainer on plain processes (`ddp`), on FSDP2 (`fsdp2`) or on DeepSpeed (`zero1` to `zero3`).

    Its model is that in `folder`/start, or `model`. Under ZeRO-3 it must be loaded before any arguments are made:
    DeepSpeed cuts what is loaded later into parts at once, and fails at CLIP's scalar.
    """
    options = OPTIONS | options
    if kind.startswith("zero"):
        os.environ |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": kind[-1]}
        os.environ |= {"ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true", "DS_ACCELERATOR": "cpu"}
        # `use_cpu` would make Accelerate leave DeepSpeed out.
        options |= {"use_cpu": False, "ddp_backend": "gloo"}
    trainer = FSDP2OnCPU if kind == "fsdp2" else ContrastiveTrainer
    model = load(setting, folder) if model is None else model
    return make_parity_trainer(setting, folder, trainer, lambda: model, **options)


def ever_warmer(batch: ContrastiveBatch) -> dict[str, Tensor]:
    """A loss that only wants a higher scale."""
    return {"warmer": -batch.logit_scale + sum(x.sum() * 0.0 for x in batch.local.values())}


class WarmerAndLower:
    """A loss that only wants a higher scale and a lower bias, and notes the batches that it has seen."""

    uses_bias = True

    def __init__(self) -> None:
        self.scales: list[Tensor] = []
        self.biases: list[Tensor] = []
        self.embeds: list[Tensor] = []

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        self.scales.append(batch.logit_scale.detach())
        self.biases.append(batch.logit_bias.detach())
        self.embeds += [x.detach() for x in batch.local.values()]
        # The processes differ, so their mean is told from each.
        own = 1.5 - rank()
        return {"warmer": own * (batch.logit_bias - batch.logit_scale) + sum(x.sum() * 0.0 for x in self.embeds[-2:])}


def train_in_half_precision(folder: str) -> None:
    """FSDP2 whose forward pass is in bfloat16: temperature and bias stay in single precision, embeddings too."""
    setting, rate = Setting("siglip", "sgd", torch.float32), 1e-4
    model = make_model(setting)
    scale, bias = model.logit_scale.item(), model.logit_bias.item()
    options = {"bf16": True, "learning_rate": rate, "logit_scale_learning_rate": None, "max_grad_norm": 0.0}
    options |= {"eval_strategy": "steps", "eval_steps": 1}
    trainer = make_sharded_trainer("fsdp2", setting, folder, model, **options)
    trainer.loss = seen = WarmerAndLower()
    trainer.train()
    assert all(isinstance(x, DTensor) for x in trainer.model.parameters())
    # One batch of training and then those of evaluation, which see what the step has changed.
    expected = [(scale, bias)]
    for _ in range(STEPS):
        # The gradients of exp(scale) and of the bias, of which the mean over processes is 1.
        scale, bias = scale + rate * math.exp(scale), bias - rate
        expected.append((scale, bias))
    found = list(dict.fromkeys((math.log(s), b.item()) for s, b in zip(seen.scales, seen.biases, strict=True)))
    assert {x.dtype for x in (*seen.scales, *seen.biases, *seen.embeds)} == {torch.float32}
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=2e-6)
    evaluated = [log["eval_logit_bias"] for log in trainer.state.log_history if "eval_logit_bias" in log]
    assert evaluated == pytest.approx([bias for _, bias in expected[1:]], abs=2e-6)
    # The tower was in half precision, its unit rows are not.
    assert trainer.model.text_model.encoder.layers[0]._get_fsdp_state()._mp_policy.param_dtype == torch.bfloat16
    assert not any(x.equal(x.bfloat16().float()) for x in seen.embeds)


def losses(trainer: ContrastiveTrainer) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


def evaluate(trainer: ContrastiveTrainer, *, averaged: bool) -> dict[str, float]:
    """Metrics of the trainer's weights, or of their moving average."""
    trainer.args.evaluate_ema = averaged
    return trainer.evaluate()


def train_sharded(kind: str, dtype: torch.dtype, folder: str) -> None:
    """Train, save, resume, and train against the bound of the temperature; leave in `folder` what came out."""
    setting = Setting("clip", "adamw", dtype)
    first, second, third, fourth = (load(setting, folder) for _ in range(4))
    average = {} if kind == "zero3" else AVERAGE
    if kind == "zero3":
        with pytest.raises(ValueError, match=r"`ema_decay` .* ZeRO-3 .* Train with ZeRO-2 or FSDP2"):
            make_sharded_trainer(kind, setting, folder, fourth, **AVERAGE)
    whole = make_sharded_trainer(kind, setting, folder, first, save_strategy="steps", save_steps=2, **average)
    whole.train()
    averaged = evaluate(whole, averaged=True)
    metrics = evaluate(whole, averaged=False)
    whole.save_model(f"{folder}/saved")

    resumed = make_sharded_trainer(kind, setting, folder, second, **average)
    resumed.train(resume_from_checkpoint=f"{folder}/checkpoint-2")
    if resumed.ema is not None:
        resumed.ema.save(Path(folder) / "resumed.safetensors", write=rank() == 0)

    bounded = make_sharded_trainer(kind, setting, folder, third, max_logit_scale=15.0, logit_scale_learning_rate=0.5)
    bounded.loss = ever_warmer
    bounded.train()
    found = {
        "losses": torch.tensor(losses(whole)),
        "resumed": torch.tensor(losses(resumed)),
        "eval_loss": torch.tensor(metrics["eval_loss"]),
        "averaged_loss": torch.tensor(averaged["eval_loss"]),
        "eval_scale": torch.tensor(metrics["eval_logit_scale"]),
        "bounded": torch.tensor([log["logit_scale"] for log in bounded.state.log_history if "logit_scale" in log]),
        "bounded_at_end": torch.tensor(bounded.evaluate()["eval_logit_scale"]),
    }
    if kind.startswith("zero"):
        from deepspeed.utils import safe_get_full_fp32_param

        found["optimizer's copy"] = safe_get_full_fp32_param(bounded.model.logit_scale).exp()
    if rank() == 0:
        torch.save(found, Path(folder) / "found.pt")
