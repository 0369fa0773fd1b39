"""What two processes do with streams of unequal parts, run in each of them."""

import logging
from collections.abc import Iterator
from typing import Any

import datasets
import pytest
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.distributed import rank
from tests.conftest import make_inputs, tiny_clip


ROWS = {name: x.tolist() for name, x in make_inputs(64).items()}


def read(rows: list[range]) -> Iterator[dict[str, Any]]:
    for row in (row for part in rows for row in part):
        yield {name: x[row] for name, x in ROWS.items()} | {"example_ids": row}


def stream(*lengths: int) -> datasets.IterableDataset:
    """A stream with shards of these lengths."""
    ends = torch.tensor(lengths).cumsum(0).tolist()
    parts = [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    return datasets.IterableDataset.from_generator(read, gen_kwargs={"rows": parts})


class PlainStream(IterableDataset[dict[str, Any]]):
    def __init__(self, length: int, bad_row: int | None = None) -> None:
        self.length, self.bad_row = length, bad_row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in read([range(self.length)]):
            if row["example_ids"] == self.bad_row:
                raise ValueError(f"Row {self.bad_row} cannot be read.")
            yield row


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


class Recorder(ContrastiveTrainer):
    """Notes the ids of every global batch."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.__dict__.setdefault("seen", []).append(self._latest.ids.tolist())
        return loss


def make_stream_trainer(train: Any, **options: Any) -> Recorder:
    defaults: dict[str, Any] = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "max_steps": 3}
    defaults |= {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    args = ContrastiveTrainingArguments("unused", loss="clip", log_geometry=False, **(defaults | options))
    torch.manual_seed(0)
    return Recorder(tiny_clip(), args, train_dataset=train, data_collator=collate)


class Messages(logging.Handler):
    """Warnings about rows that are left."""

    NAMES = ("hf_contrastive.training.feeding", "hf_contrastive.data.stream_batches")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def __enter__(self) -> "Messages":
        for name in self.NAMES:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.NAMES:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def check_a_pass_ends_with_the_shortest_shard() -> None:
    trainer = make_stream_trainer(stream(13, 6))
    with Messages() as messages:
        trainer.train()
    assert trainer.seen == [[0, 1, 2, 3, 13, 14, 15, 16]] * 3
    if rank() == 0:
        # Of 13 and 6 rows each pass used 4: what the first read on and did not use is known, the rest unread.
        assert set(messages.texts) == {
            "A pass over the training stream ended after 8 rows. Rows that each process left unused: at least 4, 0."
        }


def check_splitting_by_example_leaves_less_than_a_batch() -> None:
    for train in (stream(13, 6), PlainStream(19)):
        trainer = make_stream_trainer(train, stream_split="examples")
        with Messages() as messages:
            trainer.train()
        first, second = [0, 2, 4, 6, 1, 3, 5, 7], [8, 10, 12, 14, 9, 11, 13, 15]
        assert trainer.seen == [first, second, first]
        if rank() == 0:
            text = (
                "A pass over the training stream ended after 16 rows. Rows that each process left unused: 2, 1."
                if isinstance(train, PlainStream)
                else "3 rows at the end of the stream fill no batch of 8 and are left out."
            )
            assert messages.texts[0] == text


def check_an_update_has_all_its_batches_or_none() -> None:
    trainer = make_stream_trainer(PlainStream(24), gradient_accumulation_steps=2, max_steps=2)
    trainer.train()
    assert [sorted(batch) for batch in trainer.seen] == [list(range(8)), list(range(8, 16))] * 2


def check_a_stream_below_one_batch_is_refused() -> None:
    with pytest.raises(
        ValueError, match="no update of full batches for each of 2 processes: they read at least 4, 3 rows"
    ):
        make_stream_trainer(PlainStream(7)).train()


def check_an_error_of_one_process_ends_all() -> None:
    # Row 9 is read by both and kept by one: in training, which takes examples in turn, by the second, in evaluation, which
    # takes batches in turn, by the first. Only that one's loader sees it.
    class Collator:
        def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            if any(row["example_ids"] == 9 for row in rows):
                raise ValueError("Row 9 cannot be decoded.")
            return collate(rows)

    for process, train in ((1, True), (0, False)):
        trainer = make_stream_trainer(stream(16))
        trainer.data_collator = Collator()
        error, text = (
            (ValueError, "Row 9 cannot be decoded")
            if rank() == process
            else (RuntimeError, f"Process {process} (could not read|failed)")
        )
        with pytest.raises(error, match=text):
            trainer.train() if train else trainer.evaluate(stream(16))


def check_evaluation_counts_every_row_once() -> None:
    for count in (1, 3, 13, 16):
        rows = collate(list(read([range(count)])))
        reference = make_stream_trainer(stream(8, 8))
        reference.model.eval()
        inputs = {name: x for name, x in rows.items() if name != "example_ids"}
        with torch.no_grad():
            wanted = reference.encode(reference.model, inputs).embeds
        streams = [PlainStream(count), stream(count)]
        # Two shards, of which a process reads every second example: the order is that of one process.
        streams += [stream(count - count // 3, count // 3)] if count >= 3 else []
        for data in streams:
            output = make_stream_trainer(stream(8, 8)).predict(data)
            for name, x in zip(("image", "text"), output.predictions, strict=True):
                torch.testing.assert_close(torch.from_numpy(x), wanted[name], rtol=0, atol=1e-6)


def check_evaluation_of_a_map_counts_every_row_once() -> None:
    for even in (True, False):
        for count in (3, 13):
            rows = list(read([range(count)]))
            trainer = make_stream_trainer(stream(8, 8), accelerator_config={"even_batches": even})
            trainer.model.eval()
            inputs = {name: x for name, x in collate(rows).items() if name != "example_ids"}
            with torch.no_grad():
                wanted = trainer.encode(trainer.model, inputs).embeds
            for name, x in zip(("image", "text"), trainer.predict(rows).predictions, strict=True):
                torch.testing.assert_close(torch.from_numpy(x), wanted[name], rtol=0, atol=1e-6)


def check_streams() -> None:
    for name, check in list(globals().items()):
        if name.startswith("check_") and name != "check_streams":
            print(name, flush=True)
            check()
