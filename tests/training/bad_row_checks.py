"""Training on streams with bad rows: what a test looks at on one process, and what two processes check themselves."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from transformers import set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.data import ContrastiveCollator
from hf_contrastive.distributed import rank
from hf_contrastive.models import small_clip
from tests.conftest import TINY, make_pairs
from tests.data.streams import bad_stream


class Recorder(ContrastiveTrainer):
    """Notes the ids of every global batch."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.__dict__.setdefault("seen", []).append(self._latest.ids.tolist())
        return loss


def make_trainer(train: Any, folder: Path | str = "unused", **options: Any) -> Recorder:
    set_seed(0)
    model, processor = small_clip(make_pairs(24)["caption"], TINY)
    defaults: dict[str, Any] = {"per_device_train_batch_size": 3, "max_steps": 7, "logging_steps": 1, "loss": "clip"}
    defaults |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    args = ContrastiveTrainingArguments(str(folder), log_geometry=False, **(defaults | options))
    collator = ContrastiveCollator(processor=processor, id_column="id")
    return Recorder(model, args, train_dataset=train, data_collator=collator)


def counts(trainer: Recorder) -> list[float]:
    """What each log, of a step or of the whole run, says of rows that were skipped."""
    return [log["data/skipped_rows"] for log in trainer.state.log_history if "data/skipped_rows" in log]


def stream(bad: Collection[int], *, size: int = 24, shards: int = 2, **options: Any) -> Any:
    return bad_stream(size, bad, shards, **options)


def assert_resumes(build: Any, folder: Path, steps: Collection[int]) -> Recorder:
    """A run that is cut off trains on the same rows and has skipped as many as one that is not, which is returned."""
    whole = build(folder / "whole", save_strategy="steps", save_steps=1)
    whole.train()
    for step in steps:
        cut = build(folder / f"cut-{step}")
        cut.train(resume_from_checkpoint=str(folder / "whole" / f"checkpoint-{step}"))
        assert cut.seen == whole.seen[step * cut.args.gradient_accumulation_steps :]
        assert counts(cut) == counts(whole)
    return whole


def check_one_process_alone_meets_bad_rows(folder: Path) -> None:
    # Shards of 12 rows, one for each process. The second has 5 bad rows, so 2 full batches to the 4 of the first.
    def build(where: Path, **options: Any) -> Recorder:
        return make_trainer(stream((12, 15, 16, 22, 23)), where, stream_split="shards", max_steps=4, **options)

    whole = assert_resumes(build, folder / "shards", (3,))
    assert whole.seen == [[0, 1, 2, 13, 14, 17], [3, 4, 5, 18, 19, 20]] * 2
    # The last number is of the whole run.
    assert counts(whole) == [3, 5, 8, 10, 10]


def check_rows_that_both_processes_read_are_counted_once(folder: Path) -> None:
    whole = make_trainer(stream((12, 15, 16, 22, 23)), folder, stream_split="examples", max_steps=5)
    whole.train()
    batches = [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [13, 14, 17, 18, 19, 20]]
    # Each process takes every second row.
    assert [sorted(batch) for batch in whole.seen] == [*batches, *batches[:2]]
    assert counts(whole) == [0, 0, 5, 5, 5, 5]


def check_nothing_but_bad_rows_ends_both(folder: Path) -> None:
    for split, text in (
        ("shards", "they read 0, 0 rows and skipped 12, 12 bad ones"),
        ("examples", "All rows of the stream are bad: 24 were skipped"),
    ):
        with pytest.raises(ValueError, match=text):
            make_trainer(stream(range(24)), folder, stream_split=split).train()


def check_a_bad_row_that_is_raised_ends_both(folder: Path) -> None:
    trainer = make_trainer(stream((17,), on_bad_row="raise"), folder, stream_split="shards")
    error, text = (
        (ValueError, "Row 5 of part 1 of 2 of the stream has no caption")
        if rank()
        else (RuntimeError, "Process 1 could not read")
    )
    with pytest.raises(error, match=text):
        trainer.train()


def check_bad_rows(folder: Path) -> None:
    for name, check in list(globals().items()):
        if name.startswith("check_") and name != "check_bad_rows":
            print(name, flush=True)
            check(folder)
