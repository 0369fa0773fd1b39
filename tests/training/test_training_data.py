"""Where training takes its rows from, and goes on taking them from after it was cut off."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from transformers import set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments, mix_datasets, shuffle_stream
from hf_contrastive.distributed import rank, world_size
from hf_contrastive.testing import run_distributed
from hf_contrastive.training.manifest import write_manifest
from tests.conftest import make_inputs, tiny_clip


NUM_ROWS = 48


def make_rows(num_rows: int = NUM_ROWS, start: int = 0) -> Dataset:
    """Model inputs that begin with their row's number, and an id that four rows share."""
    columns = {name: value.tolist() for name, value in make_inputs(num_rows).items()}
    for row, ids in enumerate(columns["input_ids"]):
        ids[0] = start + row
    return Dataset.from_dict(columns | {"id": [row // 4 for row in range(num_rows)]})


def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    names = ("pixel_values", "input_ids", "attention_mask")
    return {name: torch.tensor([example[name] for example in examples]) for name in names}


class Recorder(ContrastiveTrainer):
    """Notes the rows that each step trains on."""

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        self.__dict__.setdefault("rows", []).append(inputs["input_ids"][:, 0].tolist())
        assert set(inputs) == {"pixel_values", "input_ids", "attention_mask"}
        return super().compute_loss(model, inputs, *args, **kwargs)


def make_trainer(dataset: Any, folder: Path | str, **kwargs: Any) -> Recorder:
    set_seed(0)
    model = tiny_clip(dropout=0.1)
    defaults: dict[str, Any] = {"per_device_train_batch_size": 8, "max_steps": 8, "logging_steps": 1, "save_steps": 1}
    defaults |= {"learning_rate": 1e-3, "loss": "clip", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    args = ContrastiveTrainingArguments(str(folder), **(defaults | kwargs))
    return Recorder(model, args, train_dataset=dataset, data_collator=collate)


def assert_resumes(make: Any, folder: Path, steps: tuple[int, ...], **kwargs: Any) -> None:
    """A run that is cut off trains on the same rows, to the same weights and logs, as one that is not."""
    whole = make_trainer(make(), folder / "whole", **kwargs)
    whole.train()
    for step in steps:
        cut = make_trainer(make(), folder / f"cut-{step}", **kwargs)
        cut.train(resume_from_checkpoint=str(folder / "whole" / f"checkpoint-{step}"))
        batches = step * cut.args.gradient_accumulation_steps
        assert cut.rows == whole.rows[batches:], f"after step {step}"
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(weight, cut.model.state_dict()[name]), f"{name} after step {step}"
        logs = [[log for log in t.state.log_history if "loss" in log] for t in (whole, cut)]
        assert [log["epoch"] for log in logs[0]] == pytest.approx([log["epoch"] for log in logs[1]])


def stream(num_rows: int = NUM_ROWS, shards: int = 2, start: int = 0) -> Any:
    return make_rows(num_rows, start).to_iterable_dataset(num_shards=shards)


# ---- Streams ----


def test_a_stream_is_resumed_with_the_batch_that_was_to_come_also_in_later_passes(tmp_path: Path):
    # Six batches in a pass: step 6 is at its end, step 7 in the next.
    assert_resumes(lambda: shuffle_stream(stream(), buffer_size=10), tmp_path, (4, 6, 7))


def test_a_stream_is_resumed_with_accumulated_batches_and_rows_left_over(tmp_path: Path):
    # Seven batches and three rows in a pass, two batches to a step: the last batch has none to be accumulated with.
    assert_resumes(lambda: stream(59), tmp_path, (2, 3, 4), gradient_accumulation_steps=2, max_steps=6)


@pytest.mark.slow
def test_a_stream_is_resumed_with_workers_that_read_ahead(tmp_path: Path):
    assert_resumes(lambda: stream(60), tmp_path, (3, 7), dataloader_num_workers=2)


def test_a_stream_shuffled_by_datasets_is_resumed(tmp_path: Path):
    assert_resumes(lambda: stream().shuffle(seed=2, buffer_size=20), tmp_path, (4,), max_steps=6)


def test_a_mix_of_streams_is_resumed_and_its_shares_are_logged(tmp_path: Path):
    def make() -> Any:
        return mix_datasets(
            {"one": stream(16), "other": stream(40, start=50)},
            weights={"one": 2, "other": 1},
            homogeneous_batches=True,
        )

    assert_resumes(make, tmp_path, (3,))
    trainer = make_trainer(make(), tmp_path / "logged")
    trainer.train()
    shares = [
        {name: value for name, value in log.items() if name.startswith("dataset/")}
        for log in trainer.state.log_history
    ]
    expected = [{"dataset/other" if min(rows) >= 50 else "dataset/one": 1.0} for rows in trainer.rows]
    assert shares[: len(expected)] == expected
    assert {name for share in expected for name in share} == {"dataset/one", "dataset/other"}


def test_a_checkpoint_without_a_position_is_read_again_from_the_beginning(tmp_path: Path):
    whole = make_trainer(stream(), tmp_path / "whole", max_steps=4)
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    (checkpoint / "stream_state_0.json").unlink()
    write_manifest(checkpoint)
    cut = make_trainer(stream(), tmp_path / "cut", max_steps=4)
    cut.train(resume_from_checkpoint=str(checkpoint))
    assert cut.rows == whole.rows[2:]


def test_a_run_with_other_batches_cannot_resume_a_stream(tmp_path: Path):
    make_trainer(stream(), tmp_path, max_steps=1).train()
    other = make_trainer(stream(), tmp_path, max_steps=2, per_device_train_batch_size=4)
    with pytest.raises(ValueError, match="saved with 8 as the rows per batch, and this run has 4"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_stream_cannot_be_without_duplicates(tmp_path: Path):
    with pytest.raises(ValueError, match="`no_duplicates` is 'id', but a stream cannot be ordered"):
        make_trainer(stream(), tmp_path, no_duplicates="id").train()


# ---- Maps ----


def test_no_batch_has_duplicates_and_a_cut_run_goes_on(tmp_path: Path):
    # 48 rows of 12 ids make 6 batches of 8: steps 7 to 9 are in the second epoch.
    whole = make_trainer(make_rows(), tmp_path / "whole", no_duplicates="id", max_steps=9)
    whole.train()
    assert all(len({row // 4 for row in batch}) == 8 for batch in whole.rows)
    assert sorted(row for batch in whole.rows[:6] for row in batch) == list(range(48))
    assert whole.rows[6:] != whole.rows[:3]
    cut = make_trainer(make_rows(), tmp_path / "cut", no_duplicates="id", max_steps=9)
    cut.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-7"))
    assert cut.rows == whole.rows[7:]


def test_batches_that_share_negatives_have_no_duplicates_together(tmp_path: Path):
    # 48 rows of 12 ids: two batches of 6 use up all ids.
    trainer = make_trainer(make_rows(), tmp_path, per_device_train_batch_size=6, no_duplicates="id")
    trainer.args.accumulate_negatives, trainer.args.gradient_accumulation_steps = True, 2
    batches = [batch["input_ids"][:, 0].tolist() for batch in trainer.get_train_dataloader()]
    assert len(batches) == 8
    pairs = [first + second for first, second in zip(batches[::2], batches[1::2], strict=True)]
    assert all(len({row // 4 for row in rows}) == 12 for rows in pairs)


def test_batches_of_a_mix_of_maps_are_of_one_dataset(tmp_path: Path):
    mixed = mix_datasets({"one": make_rows(16), "other": make_rows(32, start=50)}, homogeneous_batches=True)
    trainer = make_trainer(mixed, tmp_path, max_steps=6, no_duplicates=None)
    trainer.train()
    assert all(len({row >= 50 for row in batch}) == 1 for batch in trainer.rows)
    assert "dataset/one" in {name for log in trainer.state.log_history for name in log}


def rows_of_shards(shards: list[list[int]]) -> Iterator[dict[str, Any]]:
    table = make_rows()
    for shard in shards:
        yield from (table[row] for row in shard)


def train_on_two_processes(folder: str) -> None:
    import torch.distributed as dist

    def everyone(rows: list[list[int]]) -> list[list[int]]:
        gathered: list[Any] = [None] * world_size()
        dist.all_gather_object(gathered, rows)
        return [[row for rows in step for row in rows] for step in zip(*gathered, strict=True)]

    def check(name: str, make: Any, step: int, **kwargs: Any) -> list[list[int]]:
        kwargs |= {"per_device_train_batch_size": 4, "save_steps": step, "max_steps": step + 2}
        whole = make_trainer(make(), f"{folder}/{name}", **kwargs)
        whole.train()
        cut = make_trainer(make(), f"{folder}/{name}-cut", **(kwargs | {"save_strategy": "no"}))
        cut.train(resume_from_checkpoint=f"{folder}/{name}/checkpoint-{step}")
        assert cut.rows == whole.rows[step:], name
        return everyone(whole.rows)

    # Step 7 is in the second epoch, where Accelerate does not tell a sampler its epoch.
    steps = check("ids", make_rows, 7, no_duplicates="id")
    assert all(len({row // 4 for row in step}) == 8 for step in steps)
    assert sorted(row for step in steps[:6] for row in step) == list(range(48))
    assert steps[6:] != steps[:3]
    # Each process has half of a batch of 4.
    steps = check("split", make_rows, 7, no_duplicates="id", accelerator_config={"split_batches": True})
    assert all(len({row // 4 for row in step}) == 4 for step in steps)

    def mixed() -> Any:
        return mix_datasets({"one": stream(16), "other": stream(40, start=50)}, homogeneous_batches=True)

    for make in (make_rows, stream):
        with pytest.raises(
            ValueError, match="`dispatch_batches` of `accelerator_config` has one process read for all"
        ):
            check("dispatched", make, 3, accelerator_config={"dispatch_batches": True})
    # An order by length, a column of a `datasets.Dataset`, of which each process takes its part.
    steps = check("lengths", make_rows, 7, train_sampling_strategy="group_by_length", length_column_name="id")
    assert sorted(row for step in steps[:6] for row in step) == list(range(48))
    assert steps[6:] != steps[:3]
    with pytest.raises(ValueError, match="`split_batches` of `accelerator_config` is for datasets with a length"):
        check("split stream", stream, 3, accelerator_config={"split_batches": True})
    steps = check("mix", mixed, 3)
    assert all(len({row >= 50 for row in step}) == 1 for step in steps)
    assert all(len(set(step)) == 8 for step in steps)
    steps = check("stream", lambda: shuffle_stream(stream(), buffer_size=10), 7)
    assert sorted(row for step in steps[:6] for row in step) == list(range(48))
    assert Path(f"{folder}/stream/checkpoint-7/stream_state_{rank()}.json").exists()

    # After step 2 the first process has no batch left and the second one has, so the pass is over for both.
    shards = [list(range(8)), list(range(8, 24))]
    steps = check("uneven", lambda: IterableDataset.from_generator(rows_of_shards, gen_kwargs={"shards": shards}), 2)
    assert steps == [[*range(4), *range(8, 12)], [*range(4, 8), *range(12, 16)]] * 2
    state = json.loads(Path(f"{folder}/uneven/checkpoint-2/stream_state_{rank()}.json").read_text())
    assert (state["epoch"], state["num_batches"]) == (1, 0)


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_share_batches_without_duplicates_of_one_dataset_and_are_resumed(tmp_path: Path):
    run_distributed(train_on_two_processes, str(tmp_path))
