"""Features of the trainer that were made apart, together."""

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import Sampler
from transformers import CLIPModel, TrainerCallback

from hf_contrastive import (
    ContrastiveCollator,
    ContrastiveTrainingArguments,
    PairDataset,
    ZeroShot,
    mix_datasets,
    small_clip,
)
from hf_contrastive.batch import QueuedRows, QueueRows
from hf_contrastive.training.trainer import ContrastiveTrainer
from tests.conftest import TINY, make_dataset, make_inputs
from tests.training.test_trainer import make_trainer
from tests.training.three_towers import ThreeTowers, ThreeTowersConfig, three_columns


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("clip_divergence", {}),
        ("matryoshka", {"widths": [4, 12]}),
        ("info_nce", {"anchor": "image", "symmetric": False}),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_queue_is_used_from_empty_on(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, loss: str, options: dict[str, Any], start: float
):
    trainer = make_trainer(
        clip, dataset, tmp_path, loss=loss, loss_kwargs=options, max_steps=4, queue_size=16, queue_start=start
    )
    trainer.train()
    assert len(trainer.queue) == 16


@pytest.mark.parametrize(
    "ask", [dict.__len__, list, lambda q: q.get("text"), lambda q: "text" in q, lambda q: q["text"]]
)
def test_a_loss_asks_for_the_queue_in_any_way_that_a_mapping_has(ask: Any):
    rows = QueueRows({"text": QueuedRows(torch.eye(2), None)})
    assert not rows.asked
    changed = rows.map(lambda x: x)
    assert not rows.asked
    ask(changed) if ask is not dict.__len__ else len(changed)
    assert rows.asked


def test_a_second_training_begins_with_an_empty_queue(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=2, queue_size=64, queue_start=0.0)
    trainer.train()
    trainer.train()
    assert len(trainer.queue) == 16


def test_a_sampler_that_draws_as_it_goes_draws_anew_in_each_step(clip: CLIPModel, tmp_path: Path):
    class Lazy(Sampler[int]):
        def __len__(self) -> int:
            return 64

        def __iter__(self) -> Iterator[int]:
            return (random.randrange(64) for _ in range(64))

    seen: list[float] = []

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        seen.append(float(rows[0]["pixel_values"].sum()))
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    trainer = make_trainer(clip, list(make_dataset(64)), tmp_path, max_steps=8)
    trainer.data_collator, trainer._get_train_sampler = collate, lambda *_: Lazy()
    trainer.train()
    assert len(set(seen)) > 6


class Sizes(TrainerCallback):
    """Rows of the batch of each step."""

    def __init__(self) -> None:
        self.trainer: ContrastiveTrainer | None = None
        self.sizes: list[int] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        assert self.trainer is not None
        self.sizes.append(len(self.trainer._latest.world["image"]))


def test_updates_whose_batches_share_negatives_are_whole_or_not_taken(clip: CLIPModel, tmp_path: Path):
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "accumulate_negatives": True}
    trainer = make_trainer(
        clip, make_dataset(40), tmp_path, num_train_epochs=2, max_steps=-1, logging_steps=100, **options
    )
    sizes = Sizes()
    sizes.trainer = trainer
    trainer.add_callback(sizes)
    trainer.train()
    # 40 rows are two updates of 16 and half of one.
    assert sizes.sizes == [16] * 4
    assert trainer.state.max_steps == 4
    with pytest.raises(ValueError, match="has 12 rows, fewer than one global batch of 16"):
        make_trainer(clip, make_dataset(12), tmp_path, **options)


def test_a_mix_that_fills_no_batch_is_refused():
    rows = make_dataset(24)
    mixed = mix_datasets({"a": rows, "b": rows}, weights={"a": 0.9, "b": 0.1}, stopping="first_exhausted")
    with pytest.raises(ValueError, match="fewer than one global batch of 32"):
        mixed.sampler(32)


def test_terms_of_the_loss_add_up_to_it_with_a_short_last_update(clip: CLIPModel, tmp_path: Path):
    trainer = make_trainer(
        clip,
        make_dataset(24),
        tmp_path,
        num_train_epochs=2,
        max_steps=-1,
        gradient_accumulation_steps=2,
        logging_steps=4,
        learning_rate=0.0,
    )
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert sum(value for name, value in log.items() if name.startswith("loss/")) == pytest.approx(
        log["loss"], rel=1e-5
    )


# ---- Steps that are not finite ----


class Model(ThreeTowers):
    """Three towers, one with running statistics."""

    def __init__(self, config: ThreeTowersConfig) -> None:
        super().__init__(config)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, **inputs: Any) -> Any:
        output = super().forward(**inputs)
        output["audio_embeds"] = self.norm(output["audio_embeds"])
        return output


def _poisoned(step: int) -> type[TrainerCallback]:
    class Poison(TrainerCallback):
        """Makes the weights of a tower NaN for the forward pass of a step."""

        def on_step_begin(self, _: Any, state: Any, *__: Any, model: nn.Module, **___: Any) -> None:
            if state.global_step == step:
                self.hook = model.norm.register_forward_pre_hook(lambda _, inputs: (inputs[0] * torch.nan,))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if hasattr(self, "hook"):
                self.hook.remove()

    return Poison


def test_a_skipped_step_leaves_running_statistics_and_the_mean_loss_as_they_were(tmp_path: Path):
    torch.manual_seed(0)
    model = Model(ThreeTowersConfig())
    trainer = make_trainer(model, three_columns(32), tmp_path, max_steps=4, max_nonfinite_steps=2, learning_rate=0.0)
    trainer.add_callback(_poisoned(1))
    output = trainer.train()
    assert trainer.losses.nonfinite_steps == 1
    assert model.norm.running_mean.isfinite().all()
    assert model.norm.num_batches_tracked == 3
    losses = [
        entry["loss"] for entry in trainer.state.log_history if "loss" in entry and entry["loss"] == entry["loss"]
    ]
    assert output.training_loss == pytest.approx(sum(losses) / 3, rel=1e-3)
    assert output.metrics["train_loss"] == output.training_loss


def test_steps_that_were_not_finite_are_told_over_resumptions(tmp_path: Path):
    def run(steps: int, bad: int, **kwargs: Any) -> Mapping[str, Any]:
        torch.manual_seed(0)
        options = {"max_nonfinite_steps": 4, "save_strategy": "steps", "save_steps": 2}
        trainer = make_trainer(Model(ThreeTowersConfig()), three_columns(32), tmp_path, max_steps=steps, **options)
        trainer.add_callback(_poisoned(bad))
        trainer.train(**kwargs)
        return [entry["step"] for entry in json.loads((tmp_path / "nonfinite_batch.json").read_text())]

    assert run(2, 1) == [2]
    assert run(4, 3, resume_from_checkpoint=True) == [2, 4]
    # A file that was cut off takes nothing with it.
    (tmp_path / "nonfinite_batch.json").write_text('[{"step":')
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert run(4, 3, resume_from_checkpoint=True) == [4]
    (tmp_path / "nonfinite_batch.json").unlink()
    assert run(2, 1) == [2]
    shutil.rmtree(tmp_path / "checkpoint-4")
    assert run(4, 3, resume_from_checkpoint=True) == [2, 4]
    assert run(4, 2) == [3]


# ---- Evaluation ----


def test_workers_that_live_on_do_not_read_the_dataset_before(clip: CLIPModel, tmp_path: Path):
    first, second = make_dataset(12), make_dataset(24).select(range(12, 24))
    options = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = make_trainer(clip, first, tmp_path, **options)
    losses = [trainer.evaluate(data)["eval_loss"] for data in (first, second)]
    assert losses[0] != losses[1]
    trainer = make_trainer(clip, first, tmp_path)
    assert [trainer.evaluate(data)["eval_loss"] for data in (first, second)] == losses


def test_evaluators_embed_with_the_processors_of_the_modalities(pairs: Dataset, tmp_path: Path):
    model, processor = small_clip(["a red cat"], TINY)
    by_modality = ContrastiveCollator(
        processor={"image": (processor.image_processor, "image"), "text": (processor.tokenizer, "text")}
    )
    labelled = pairs.map(lambda _, number: {"label": number % 2}, with_indices=True)
    zero_shot = ZeroShot(labelled, ["red", "green"], templates=["a {} picture"])
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, loss="clip")
    found = []
    for collator in (by_modality, ContrastiveCollator(processor=processor)):
        trainer = ContrastiveTrainer(
            model, args, eval_dataset=PairDataset(pairs), data_collator=collator, evaluators=[zero_shot]
        )
        found.append(trainer.evaluate()["eval_zeroshot/top1"])
    assert found[0] == found[1]


# ---- Streams ----


def test_a_finished_run_on_a_stream_ends_when_it_is_resumed(clip: CLIPModel, tmp_path: Path):
    rows = Dataset.from_dict({name: x.tolist() for name, x in make_inputs(24).items()}).to_iterable_dataset()

    def stack(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in examples]) for name in examples[0]}

    def trainer() -> ContrastiveTrainer:
        options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "use_cpu": True, "report_to": "none"}
        args = ContrastiveTrainingArguments(str(tmp_path), loss="clip", per_device_train_batch_size=8, **options)
        return ContrastiveTrainer(clip, args, train_dataset=rows, data_collator=stack)

    trainer().train()
    again = trainer()
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 2
