"""Training on the GPU: precisions, chunks, compiled models, resumption, evaluation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from hf_contrastive import ContrastiveBatch
from hf_contrastive.functional.checks import NonFiniteError
from hf_contrastive.losses import CLIP
from hf_contrastive.training.random_state import RandomState
from tests.conftest import make_inputs, tiny_clip
from tests.gpu.trainers import dropout_clip, losses, make, weights
from tests.towers.test_frozen import CHECKPOINTING
from tests.training.test_chunked import CHUNK, PLENTY, ROWS, Towers, assert_same, chunked, gradients, inputs_of
from tests.training.test_nonfinite import BadAt


# How far the losses of four steps may be from those of the CPU in single precision.
PRECISIONS: dict[str, tuple[dict[str, bool], float]] = {
    "fp32": ({}, 1e-4),
    "bf16": ({"bf16": True}, 3e-2),
    "fp16": ({"fp16": True}, 1e-2),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "default loss": {"loss": "clip_divergence"},
    "gradient checkpointing": {CHECKPOINTING: True},
    "chunks": {"encode_chunk_size": 3, "encode_keep_bytes": 0},
    "accumulated negatives": {"gradient_accumulation_steps": 2, "accumulate_negatives": True},
    "queue": {"queue_size": 20, "queue_start": 0.0},
    "workers and pinned memory": {"dataloader_num_workers": 2, "dataloader_pin_memory": True},
    "persistent workers": {"dataloader_num_workers": 1, "dataloader_persistent_workers": True},
    "no clipping": {"max_grad_norm": 0.0},
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_losses_of_a_run_are_those_of_the_cpu(device: torch.device, setting: str, precision: str, tmp_path: Path):
    if device.type == "cpu" and precision == "fp16":
        pytest.skip("fp16 needs a GPU")
    options, tolerance = PRECISIONS[precision]
    expected = make(dropout_clip(0.0), tmp_path / "cpu", torch.device("cpu"), **SETTINGS[setting])
    expected.train()
    trainer = make(dropout_clip(0.0), tmp_path / "gpu", device, **SETTINGS[setting], **options)
    trainer.train()
    assert losses(trainer) == pytest.approx(losses(expected), rel=tolerance, abs=tolerance)
    assert trainer.losses.nonfinite_steps == 0
    assert all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_compiled_model_trains_evaluates_and_is_saved_as_itself(
    device: torch.device, precision: str, tmp_path: Path
):
    if device.type == "cpu" and precision == "fp16":
        pytest.skip("fp16 needs a GPU")
    options, tolerance = PRECISIONS[precision]
    backend = {} if device.type == "cuda" else {"torch_compile_backend": "eager"}
    plain = make(dropout_clip(0.0), tmp_path / "plain", device, **options)
    plain.train()
    trainer = make(dropout_clip(0.0), tmp_path / "run", device, torch_compile=True, **backend, **options)
    trainer.train()
    # Compiling turns on TF32 products.
    assert losses(trainer) == pytest.approx(losses(plain), rel=max(tolerance, 1e-2))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], rel=3e-2)
    trainer.save_model(str(tmp_path / "saved"))
    again = type(trainer.model).from_pretrained(tmp_path / "saved")
    for name, value in again.state_dict().items():
        assert value.equal(weights(trainer)[name]), name


def test_graphs_of_the_driver_replay_a_step(cuda: torch.device, tmp_path: Path):
    plain = make(dropout_clip(0.0), tmp_path / "plain", cuda, bf16=True, max_steps=6)
    plain.train()
    graphs = {"torch_compile": True, "torch_compile_mode": "reduce-overhead"}
    trainer = make(dropout_clip(0.0), tmp_path / "run", cuda, bf16=True, max_steps=6, **graphs)
    trainer.train()
    assert losses(trainer) == pytest.approx(losses(plain), rel=3e-2)


def test_chunks_draw_the_random_numbers_of_the_whole_batch_again(device: torch.device):
    model = Towers("image", "text", dropout=0.5).to(device)
    inputs = {m: x.to(device) for m, x in inputs_of("image", "text").items()}
    assert ROWS > CHUNK
    found = []
    for keep_bytes in (PLENTY, 0):
        torch.manual_seed(7)
        found.append((gradients(model, chunked(model, inputs, keep_bytes)), torch.rand(1, device=device)))
    assert_same(found[1][0], found[0][0], 1e-9)
    # And leave the generator where it would be.
    assert found[0][1] == found[1][1]


def test_random_state_of_the_device_comes_back(device: torch.device):
    state = RandomState.now([torch.device(device.type, 0) if device.type == "cuda" else device])
    first = torch.rand(3, device=device)
    after = torch.rand(3, device=device)
    with state.again():
        assert torch.rand(3, device=device).equal(first)
    state.restore()
    torch.rand(3, device=device)
    assert torch.rand(3, device=device).equal(after)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_step_whose_loss_is_not_finite_changes_nothing(cuda: torch.device, precision: str, value: float, tmp_path):
    bad = BadAt({1}, value)
    trainer = make(
        tiny_clip(), tmp_path, cuda, loss_object=bad, max_nonfinite_steps=1, max_steps=3, **{precision: True}
    )
    seen = []
    trainer.add_callback(Seen(trainer, seen))
    trainer.train()
    assert same(seen[1], seen[0])
    assert not same(seen[2], seen[1])
    assert trainer.losses.nonfinite_steps == 1
    with pytest.raises(NonFiniteError, match=r"^Step 2 is not finite: the loss is "):
        make(tiny_clip(), tmp_path / "again", cuda, loss_object=BadAt({1}, value), **{precision: True}).train()


@pytest.mark.parametrize("clipping", [0.0, 1.0])
def test_a_gradient_that_overflows_in_half_precision_lowers_the_scale_and_counts_as_nothing(
    cuda: torch.device, clipping: float, tmp_path: Path
):
    bad = BadAt({1}, math.inf, gradient_only=True)
    trainer = make(
        tiny_clip(), tmp_path, cuda, loss_object=bad, max_steps=3, fp16=True, max_grad_norm=clipping, ema_decay=0.5
    )
    seen, scales = [], []
    trainer.add_callback(Seen(trainer, seen, scales))
    trainer.train()
    assert same(seen[1], seen[0])
    assert not same(seen[2], seen[1])
    assert scales[1] == scales[0] / 2
    assert trainer.losses.nonfinite_steps == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(device: torch.device, precision: str, tmp_path: Path):
    if device.type == "cpu" and precision == "fp16":
        pytest.skip("fp16 needs a GPU")
    options = {"max_steps": 6, "logging_steps": 4, "save_strategy": "steps", "save_steps": 3, "ema_decay": 0.5}
    options |= {"queue_size": 12, "queue_start": 0.0, "encode_chunk_size": 3, "encode_keep_bytes": 0}
    options |= {"dataloader_num_workers": 1, **PRECISIONS[precision][0]}
    whole = make(dropout_clip(), tmp_path, device, **options)
    whole.train()
    resumed = make(dropout_clip(), tmp_path, device, **options)
    torch.rand(5, device=device)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for name, value in weights(whole).items():
        assert weights(resumed)[name].equal(value), name
    for name, value in whole.ema.averages.items():
        assert resumed.ema.averages[name].equal(value), name
    for m, rows in whole.queue.rows().plain().items():
        assert rows.embeds.device.type == device.type
        assert resumed.queue.rows().plain()[m].embeds.equal(rows.embeds)
    # The log at step 4 holds steps of before the checkpoint and after it.
    assert logs(resumed) == logs(whole)


def logs(trainer: Any) -> list[dict[str, float]]:
    return [log for log in trainer.state.log_history if "loss" in log]


# A question of peft to transformers under an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_trains_in_half_precision(device: torch.device, tmp_path: Path):
    peft = pytest.importorskip("peft", reason="the package peft is not installed")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = make(tiny_clip(), tmp_path, device, peft_config=config, bf16=True, **{CHECKPOINTING: True})
    before = weights(trainer)
    trainer.train()
    changed = {name for name, value in weights(trainer).items() if not value.equal(before[name])}
    assert changed
    assert all("lora_" in name or "logit_scale" in name for name in changed)


def test_evaluation_leaves_embeddings_on_the_cpu_and_measures_as_the_cpu_does(device: torch.device, tmp_path: Path):
    trainer = make(tiny_clip(), tmp_path, device)
    expected = make(tiny_clip(), tmp_path, torch.device("cpu"))
    expected.model.load_state_dict(weights(trainer))
    output = trainer.predict(trainer.eval_dataset)
    assert all(isinstance(x, np.ndarray) and len(x) == 64 for x in output.predictions)
    for name, value in expected.evaluate().items():
        if name != "epoch" and not name.endswith(("time", "per_second")):
            assert output.metrics[name.replace("eval_", "test_")] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    with_average = make(tiny_clip(), tmp_path, device, ema_decay=0.9, evaluate_ema=True, bf16_full_eval=False)
    with_average.train()
    assert math.isfinite(with_average.evaluate()["eval_loss"])


def test_batches_are_on_the_device_with_everything_in_them(device: torch.device, tmp_path: Path):
    seen = []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        seen.append(
            {x.device.type for x in (*batch.world.values(), *batch.present.values(), batch.ids, batch.positives)}
        )
        return CLIP()(batch)

    trainer = make(tiny_clip(), tmp_path, device, loss_object=loss, dataloader_num_workers=1)
    columns = {name: list(x.numpy()) for name, x in make_inputs(64).items()} | {"example_ids": list(range(64))}
    data = trainer.train_dataset
    trainer.train_dataset = data.from_dict(columns).with_format("torch")
    trainer.train()
    assert seen == [{device.type}] * 4


class Seen(TrainerCallback):
    """Weights after each step, and the scaler's scale."""

    def __init__(self, trainer: Any, seen: list[Any], scales: list[float] | None = None) -> None:
        self.trainer, self.seen, self.scales = trainer, seen, scales

    def on_step_end(self, *_: Any, **__: Any) -> None:
        averages = {} if self.trainer.ema is None else self.trainer.ema.averages
        self.seen.append(weights(self.trainer) | {f"average of {n}": x.clone() for n, x in averages.items()})
        if self.scales is not None:
            self.scales.append(self.trainer.accelerator.scaler.get_scale())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(value.equal(second[name]) for name, value in first.items())
