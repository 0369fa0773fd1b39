"""Chunks and accumulated negatives in the trainer, against plain steps of whole batches, in double precision."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedType
from datasets import IterableDataset
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, set_seed

from hf_contrastive import ContrastiveBatch, ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.losses import CLIP
from hf_contrastive.testing import run_distributed
from hf_contrastive.training.micro_batches import refuse_sharded
from tests.conftest import make_inputs, tiny_clip, tiny_siglip
from tests.towers.test_frozen import CHECKPOINTING


SGD = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "weight_decay": 0.0}


def rows_of(count: int) -> list[dict[str, Tensor]]:
    inputs = make_inputs(count)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    return [{name: x[row] for name, x in inputs.items()} for row in range(count)]


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class InOrder(ContrastiveTrainer):
    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def train(
    folder: Path | str,
    data: Any = None,
    model: PreTrainedModel | None = None,
    kind: type[InOrder] = InOrder,
    **kwargs: Any,
) -> InOrder:
    """Two steps, by default of 16 rows, over the same rows in the same order."""
    if model is None:
        set_seed(0)
        model = tiny_clip()
    options: dict[str, Any] = {"per_device_train_batch_size": 8, "max_steps": 2, "logging_steps": 1, "loss": "clip"}
    options |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True} | SGD
    args = ContrastiveTrainingArguments(str(folder), **(options | kwargs))
    trainer = kind(model.double(), args, train_dataset=rows_of(16) if data is None else data, data_collator=collate)
    trainer.train()
    return trainer


def weights(trainer: InOrder) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.accelerator.unwrap_model(trainer.model).named_parameters()}


def largest_difference(one: InOrder, other: InOrder) -> float:
    return max((x - y).abs().max().item() for x, y in zip(weights(one).values(), weights(other).values(), strict=True))


def losses_of(trainer: InOrder) -> list[float]:
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


# ---- Chunks ----


@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("keep_bytes", [0, 2**30])
def test_steps_in_chunks_reach_the_same_weights(tmp_path: Path, accumulated: int, keep_bytes: int):
    options = {"gradient_accumulation_steps": accumulated, "max_grad_norm": 0.5}
    plain = train(tmp_path, **options)
    chunked = train(tmp_path, encode_chunk_size=3, encode_keep_bytes=keep_bytes, **options)
    assert largest_difference(chunked, plain) < 1e-9
    assert losses_of(chunked) == pytest.approx(losses_of(plain), abs=1e-9)
    norms = [[log["grad_norm"] for log in t.state.log_history if "grad_norm" in log] for t in (chunked, plain)]
    assert norms[0] == pytest.approx(norms[1], abs=1e-9)
    smaller = train(tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=3 * accumulated)
    assert largest_difference(smaller, plain) > 1e-3


def test_scale_and_bias_of_siglip_are_trained_in_chunks(tmp_path: Path):
    trainers = []
    for size in (None, 3):
        set_seed(0)
        trainers.append(train(tmp_path, model=tiny_siglip(), loss="siglip", encode_chunk_size=size))
    assert largest_difference(*trainers) < 1e-9
    assert weights(trainers[1])["logit_bias"].abs().item() > 1e-3


def test_mixed_precision_and_checkpointing_work_in_chunks(tmp_path: Path):
    def steps(**kwargs: Any) -> InOrder:
        set_seed(0)
        data = [row | {"pixel_values": row["pixel_values"].float()} for row in rows_of(16)]
        model = tiny_clip()
        model.double = lambda: model  # type: ignore[method-assign]
        return train(tmp_path, data, model, bf16=True, **kwargs)

    plain = steps()
    start = tiny_clip_weights()
    moved = max((weights(plain)[name] - x).abs().max().item() for name, x in start.items())
    for keep_bytes in (0, 2**30):
        chunked = steps(encode_chunk_size=3, encode_keep_bytes=keep_bytes, **{CHECKPOINTING: True})
        # Of the way that weights went: rounding of activations to 8 bits.
        assert largest_difference(chunked, plain) < 0.03 * moved
        for name, x in start.items():
            if not name.endswith("k_proj.bias"):
                assert not torch.equal(weights(chunked)[name], x), name


def tiny_clip_weights() -> dict[str, Tensor]:
    set_seed(0)
    return {name: p.detach() for name, p in tiny_clip().named_parameters()}


def test_the_other_name_of_the_chunk_size_is_the_same(tmp_path: Path):
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, mini_batch_size=3)
    assert (args.encode_chunk_size, args.mini_batch_size) == (3, 3)
    with pytest.raises(ValueError, match="mini_batch_size is another name of encode_chunk_size, but they are 3 and 4"):
        ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, mini_batch_size=3, encode_chunk_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode_chunk_size": 0}, "encode_chunk_size must be at least 1 row, but got 0"),
        ({"mini_batch_size": -2}, "encode_chunk_size must be at least 1 row, but got -2"),
        ({"encode_keep_bytes": -1}, "encode_keep_bytes must not be negative, but got -1"),
    ],
)
def test_impossible_sizes_are_refused(tmp_path: Path, options: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, **options)


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.XLA])
@pytest.mark.parametrize("option", [{"encode_chunk_size": 3}, {"accumulate_negatives": True}])
def test_sharding_backends_are_refused(tmp_path: Path, kind: DistributedType, option: dict[str, Any]):
    name = next(iter(option))
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, **option)
    with pytest.raises(
        ValueError, match=rf"^`{name}` embeds .*, which {kind.value} does not support: .* `{name}` and"
    ):
        refuse_sharded(kind, args)
    refuse_sharded(DistributedType.MULTI_GPU, args)
    refuse_sharded(kind, ContrastiveTrainingArguments(str(tmp_path), use_cpu=True))


def test_the_trainer_asks_its_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, encode_chunk_size=3)
    with pytest.raises(ValueError, match="`encode_chunk_size` embeds a batch"):
        ContrastiveTrainer(tiny_clip(), args)


def test_batch_normalization_is_refused_in_chunks_and_not_without(tmp_path: Path):
    def with_norm() -> PreTrainedModel:
        model = tiny_clip()
        model.text_projection = nn.Sequential(nn.BatchNorm1d(16), model.text_projection)
        return model

    train(tmp_path, model=with_norm())
    with pytest.raises(ValueError, match=r"`text_projection.0` is a BatchNorm1d in training mode"):
        train(tmp_path, model=with_norm(), encode_chunk_size=3)


# ---- Accumulated negatives ----


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_micro_batches_are_each_others_negatives(tmp_path: Path, chunk_size: int | None):
    whole = train(tmp_path)
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "encode_chunk_size": chunk_size}
    joined = train(tmp_path, accumulate_negatives=True, include_num_input_tokens_seen="all", **options)
    assert largest_difference(joined, whole) < 1e-9
    assert losses_of(joined) == pytest.approx(losses_of(whole), abs=1e-9)
    assert joined.state.global_step == 2
    assert joined.state.num_input_tokens_seen == 2 * 8 * 6
    assert joined.state.epoch == whole.state.epoch
    log = joined.state.log_history[0]
    assert log["loss"] == pytest.approx(log["loss/clip_image_to_text"] + log["loss/clip_text_to_image"], rel=1e-5)
    assert largest_difference(train(tmp_path, **options), whole) > 1e-3


def test_updates_that_an_epoch_cannot_fill_are_left_out(tmp_path: Path):
    seen: list[int] = []

    class Watching(CLIP):
        def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
            seen.append(len(batch.world["text"]))
            return super().__call__(batch)

    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "num_train_epochs": 2}
    data = rows_of(20)  # five micro-batches: three, and two that are no whole update
    whole = train(tmp_path, data[:12], per_device_train_batch_size=12, max_steps=2)
    assert largest_difference(train(tmp_path, data, max_steps=2, accumulate_negatives=True, **options), whole) < 1e-9

    set_seed(0)
    args = ContrastiveTrainingArguments(
        str(tmp_path), accumulate_negatives=True, use_cpu=True, report_to="none", save_strategy="no", **options
    )
    trainer = InOrder(tiny_clip().double(), args, loss=Watching(), train_dataset=data, data_collator=collate)
    trainer.train()
    assert seen == [12, 12]
    assert trainer.state.global_step == trainer.state.max_steps == 2


def test_a_stream_that_ends_within_an_update_leaves_no_gradient_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "accumulate_negatives": True}
    plain = train(tmp_path, rows_of(20)[:16], max_steps=4, **options)
    # Five micro-batches: the fifth has no partner, and the next epoch begins anew.
    stream = IterableDataset.from_generator(lambda: iter(rows_of(20)))
    streamed = train(tmp_path, stream, max_steps=4, **options)
    assert largest_difference(streamed, plain) < 1e-9
    assert "ended after 16 rows. Rows that each process left unused: 4." in caplog.text
    assert streamed.state.global_step == 4


# ---- Processes ----


CHUNKS = {"encode_chunk_size": 3, "encode_keep_bytes": 0}
WAYS: list[dict[str, Any]] = [
    {},
    CHUNKS,
    CHUNKS | {"encode_keep_bytes": 2**30},
    CHUNKS | {CHECKPOINTING: True},
    CHUNKS | {"gradient_accumulation_steps": 2},
    {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "accumulate_negatives": True},
    CHUNKS | {"encode_keep_bytes": 6000},
]
ACCUMULATED, FROZEN = {4}, {6}


class Counting(InOrder):
    """Counts how often gradients are reduced."""

    reductions: list[int] | None = None

    def training_step(self, model: nn.Module, *args: Any) -> Tensor:
        if self.reductions is None:
            self.reductions = []
            model.register_comm_hook(self.reductions, count_and_average)
        return super().training_step(model, *args)


def count_and_average(reductions: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    reductions.append(bucket.index())
    work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def with_frozen_images() -> PreTrainedModel:
    set_seed(0)
    model = tiny_clip()
    model.vision_model.requires_grad_(False)
    return model


def train_on_two(folder: str) -> None:
    results = []
    for place, options in enumerate(WAYS):
        model = with_frozen_images() if place in FROZEN else None
        trainer = train(folder, rows_of(32), model, kind=Counting, log_geometry=False, **options)
        assert trainer.accelerator.num_processes == 2
        # Two steps, each with the gradients of all weights in one bucket.
        assert trainer.reductions == [0, 0], options
        results.append(weights(trainer))
    torch.save(results, f"{folder}/weights-{dist.get_rank()}.pt")


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_processes_reach_the_weights_of_one_and_reduce_once_a_step(tmp_path: Path):
    run_distributed(train_on_two, str(tmp_path), num_processes=2)
    results = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in (0, 1)]
    for place, options in enumerate(WAYS):
        whole = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2 if place in ACCUMULATED else 1}
        model = with_frozen_images() if place in FROZEN else None
        for name, x in weights(train(tmp_path, rows_of(32), model, log_geometry=False, **whole)).items():
            for rank in (0, 1):
                actual = results[rank][place][name]
                torch.testing.assert_close(actual, x, rtol=0, atol=1e-9, msg=f"{options}, {name}, rank {rank}")
