"""A step that is not finite changes nothing, is told with its rows, and after a few of them the run stops."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from datasets import Dataset
from torch import Tensor
from transformers import CLIPModel, TrainerCallback, set_seed

from hf_contrastive import ContrastiveBatch, ContrastiveTrainingArguments
from hf_contrastive.functional.checks import NonFiniteError
from hf_contrastive.losses import CLIP
from hf_contrastive.testing import run_distributed
from hf_contrastive.training.nonfinite import StepGuard
from tests.conftest import make_dataset, make_inputs, tiny_clip
from tests.training.test_trainer import make_trainer


class BadAt:
    """CLIP whose value or gradient is not finite in some calls, counted from 0."""

    def __init__(self, calls: set[int], value: float = math.nan, *, gradient_only: bool = False) -> None:
        self.calls, self.value, self.gradient_only, self.count = calls, value, gradient_only, -1

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        self.count += 1
        terms = CLIP()(batch)
        if self.count in self.calls:
            name = next(iter(terms))
            if self.gradient_only:
                terms[name].register_hook(lambda gradient: gradient * self.value)
            else:
                terms[name] = terms[name] + self.value
        return terms


class Watch(TrainerCallback):
    """Weights, queue, and optimizer state after each step."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.after = trainer, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        trainer = self.trainer
        weights = [p.detach().clone() for p in trainer.model.parameters()]
        moments = [s["exp_avg"].clone() for s in trainer.optimizer.state.values()]
        steps = [float(s["step"]) for s in trainer.optimizer.state.values()]
        queue = [rows.embeds.clone() for rows in trainer.queue.rows().values()] if trainer.queue else []
        self.after.append((weights, moments, steps, queue))


def equal(first: Any, second: Any) -> bool:
    return all(
        torch.as_tensor(x).equal(torch.as_tensor(y))
        for ones, others in zip(first, second, strict=True)
        for x, y in zip(ones, others, strict=True)
    )


def written(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "nonfinite_batch.json").read_text())


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (BadAt({1}), "the loss is nan"),
        (BadAt({1}, math.inf), "the loss is inf"),
        (BadAt({1}, gradient_only=True), "the norm of the gradient is nan"),
        (BadAt({1}, math.inf, gradient_only=True), "the norm of the gradient is"),
    ],
    ids=["nan", "inf", "nan_gradient", "inf_gradient"],
)
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    clip: CLIPModel, tmp_path: Path, bad: BadAt, reason: str
):
    options = {"max_steps": 4, "max_nonfinite_steps": 1, "queue_size": 20, "queue_start": 0.0}
    trainer = make_trainer(clip, make_dataset(32), tmp_path, loss_object=bad, **options)
    trainer.add_callback(watch := Watch(trainer))
    trainer.train()
    first, second, third, _ = watch.after
    assert equal(second, first)
    assert not equal(third, second)
    assert [log.get("nonfinite_steps") for log in trainer.state.log_history if "loss" in log] == [None, 1, 1, 1]
    # No running average stands in for what is not known.
    assert [math.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log] == [
        True,
        False,
        True,
        True,
    ]
    (told,) = written(tmp_path)
    assert told["step"] == 2
    assert told["reason"].startswith(reason)
    assert all(p.isfinite().all() for p in clip.parameters())


def test_a_log_over_several_steps_is_the_mean_of_the_finite_ones(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    options = {"max_steps": 4, "logging_steps": 4, "learning_rate": 0.0, "max_nonfinite_steps": 1}
    trainer = make_trainer(clip, dataset, tmp_path, loss_object=BadAt({0}), **options)
    trainer.train()
    log = trainer.state.log_history[0]
    terms = [value for name, value in log.items() if name.startswith("loss/")]
    assert log["loss"] == pytest.approx(sum(terms), rel=1e-5)


def test_the_first_one_stops_the_run_by_default_and_names_its_rows(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, loss_object=BadAt({1}), max_steps=3)
    before = None

    class Keep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            nonlocal before
            before = [p.detach().clone() for p in clip.parameters()]

    trainer.add_callback(Keep())
    with pytest.raises(
        NonFiniteError, match=r"^Step 2 is not finite: the loss is nan\. .* `max_nonfinite_steps` allows 0"
    ):
        trainer.train()
    assert equal([before], [list(clip.parameters())])
    (told,) = written(tmp_path)
    (batch,) = told["batches"]
    assert batch["loss"] == "nan"
    assert sorted(map(str, batch["terms"].values()))[-1] == "nan"
    # The other half of the 16 rows was in step 1.
    assert len(set(batch["rows"])) == 8
    assert set(batch["rows"]) <= set(range(16))
    assert batch["example_ids"] is None


def test_rows_that_overflow_are_found_by_their_numbers_and_ids(clip: CLIPModel, tmp_path: Path):
    rows = make_inputs(16)
    # Like the squares of large entries in half precision.
    rows["pixel_values"][11] = 1e38
    columns = {name: value.tolist() for name, value in rows.items()} | {"example_ids": list(range(100, 116))}
    data = Dataset.from_dict(columns).with_format("torch")
    trainer = make_trainer(clip, data, tmp_path, max_steps=2)
    with pytest.raises(
        NonFiniteError, match=r"`image_embeds` holds rows that are not finite: row \d is the first of 1"
    ):
        trainer.train()
    (batch,) = written(tmp_path)[0]["batches"]
    assert 11 in batch["rows"]
    assert batch["example_ids"] == [100 + row for row in batch["rows"]]


def test_rows_that_overflow_are_passed_over_within_the_limit(clip: CLIPModel, tmp_path: Path):
    rows = make_inputs(16)
    rows["pixel_values"][11] = 1e38
    data = Dataset.from_dict({name: value.tolist() for name, value in rows.items()}).with_format("torch")
    trainer = make_trainer(clip, data, tmp_path, max_steps=4, max_nonfinite_steps=2, queue_size=8, queue_start=0.0)
    trainer.train()
    assert trainer.losses.nonfinite_steps == 2
    assert len(written(tmp_path)) == 2
    assert all(p.isfinite().all() for p in clip.parameters())


def test_one_bad_batch_of_several_skips_the_whole_step(clip: CLIPModel, tmp_path: Path):
    options = {"gradient_accumulation_steps": 2, "max_steps": 2, "max_nonfinite_steps": 1}
    trainer = make_trainer(clip, make_dataset(32), tmp_path, loss_object=BadAt({2}), **options)
    trainer.add_callback(watch := Watch(trainer))
    trainer.train()
    assert equal(watch.after[1], watch.after[0])
    (told,) = written(tmp_path)
    assert [batch["batch_of_step"] for batch in told["batches"]] == [0]


def test_a_skipped_step_is_as_if_the_batch_had_not_been(clip: CLIPModel, tmp_path: Path):
    # With a constant rate, the run without the bad batch has the same weights.
    options = {"lr_scheduler_type": "constant", "max_nonfinite_steps": 1}
    weights = {name: x.clone() for name, x in clip.state_dict().items()}
    data = make_dataset(24)
    results = []
    for rows, loss, steps in ((range(24), BadAt({1}), 3), ([*range(8), *range(16, 24)], BadAt(set()), 2)):
        clip.load_state_dict(weights)
        trainer = make_trainer(clip, data.select(rows), tmp_path, loss_object=loss, max_steps=steps, **options)
        trainer._get_train_sampler = lambda dataset: torch.utils.data.SequentialSampler(dataset)
        trainer.train()
        results.append([p.detach().clone() for p in clip.parameters()])
    assert equal([results[0]], [results[1]])


def test_the_count_goes_on_after_a_resumption(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "max_nonfinite_steps": 1}
    make_trainer(clip, dataset, tmp_path, loss_object=BadAt({0}), **options).train()
    again = make_trainer(clip, dataset, tmp_path, loss_object=BadAt({1}), **options)
    with pytest.raises(NonFiniteError, match=r"Step 4 is not finite: .* It is number 2 of such steps"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_an_overflow_that_the_scaler_handles_is_not_counted(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    bad = BadAt({1}, math.inf, gradient_only=True)
    trainer = make_trainer(clip, dataset, tmp_path, loss_object=bad, max_steps=3)
    # Accelerate refuses fp16 without an accelerator; its scaler works on the CPU as well.
    scaler = trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    prepare = trainer.accelerator.prepare_optimizer
    trainer.accelerator.native_amp = True

    def with_scaler(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = prepare(optimizer, *args, **kwargs)
        prepared.scaler = scaler
        prepared._optimizer_original_step_method = prepared.optimizer.step
        prepared._accelerate_step_called = False
        prepared._optimizer_patched_step_method = _patched(prepared, prepared.optimizer.step)
        return prepared

    trainer.accelerator.prepare_optimizer = with_scaler
    trainer.add_callback(watch := Watch(trainer))
    trainer.train()
    assert scaler.get_scale() == 2.0**3
    assert equal(watch.after[1][:1], watch.after[0][:1])
    assert not equal(watch.after[2][:1], watch.after[1][:1])
    assert trainer.losses.nonfinite_steps == 0


def _patched(prepared: Any, step: Any) -> Any:
    def patched(*args: Any, **kwargs: Any) -> Any:
        prepared._accelerate_step_called = True
        return step(*args, **kwargs)

    return patched


@pytest.mark.parametrize("value", [-1])
def test_a_negative_limit_is_refused(tmp_path: Path, value: int):
    with pytest.raises(ValueError, match="max_nonfinite_steps must not be negative, but got -1"):
        ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, max_nonfinite_steps=value)


# ---- Several processes ----


def skip_and_stop_together(folder: str) -> None:
    set_seed(0)
    model = tiny_clip()
    options = {"max_steps": 4, "per_device_train_batch_size": 4, "max_nonfinite_steps": 1, "log_geometry": False}
    trainer = make_trainer(
        model, make_dataset(32), Path(folder), loss_object=BadAt({1, 3} if dist.get_rank() == 1 else set()), **options
    )
    trainer.add_callback(watch := Watch(trainer))
    # Both ranks end with the error: one that went on would wait for the other for ever.
    with pytest.raises(NonFiniteError, match="Step 4 is not finite: the loss is nan"):
        trainer.train()
    assert equal(watch.after[1], watch.after[0])
    assert not equal(watch.after[2], watch.after[1])
    everyone = [torch.empty_like(model.logit_scale) for _ in range(2)]
    dist.all_gather(everyone, model.logit_scale.detach())
    assert everyone[0].equal(everyone[1])
    assert [(told["step"], [b["rank"] for b in told["batches"]]) for told in written(Path(folder))] == [
        (2, [1]),
        (4, [1]),
    ]


def stop_together_where_one_does_not_repeat_itself(folder: str) -> None:
    model, own = tiny_clip(), torch.Generator()
    if dist.get_rank() == 1:
        model.text_projection.register_forward_hook(lambda _, __, x: x + torch.rand(x.shape, generator=own))
    options = {"encode_chunk_size": 2, "encode_keep_bytes": 0, "per_device_train_batch_size": 4, "max_steps": 2}
    trainer = make_trainer(model, make_dataset(32), Path(folder), log_geometry=False, **options)
    with pytest.raises(
        RuntimeError, match=r"embedded again on process 1 of 2 \(difference [\d.]+\), so the gradient is"
    ):
        trainer.train()
    assert trainer.state.global_step == 0


def stop_together(folder: str) -> None:
    skip_and_stop_together(folder)
    stop_together_where_one_does_not_repeat_itself(folder)


@pytest.mark.distributed
@pytest.mark.timeout(120)
def test_processes_skip_and_stop_together(tmp_path: Path):
    run_distributed(stop_together, str(tmp_path), num_processes=2)


def test_a_gradient_that_overflows_under_a_scaler_is_the_scalers_to_skip(tmp_path: Path):
    # Fused optimizers are called for such a step too, and leave it out within.
    guard = StepGuard(0, tmp_path)
    guard.begin([None])
    infinite = torch.tensor(math.inf)
    assert guard.must_skip(infinite, scaled=True, stop=False, device=infinite.device) == (False, False)
    assert guard.is_left_out()
    guard.begin([None])
    assert not guard.is_left_out()
    assert guard.must_skip(infinite, scaled=False, stop=False, device=infinite.device) == (True, False)
