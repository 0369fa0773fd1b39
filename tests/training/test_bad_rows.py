"""Training on streams with bad rows: full batches, the same count and rows after a stop, on one process and on two."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_contrastive.testing import run_distributed
from tests.training.bad_row_checks import Recorder, assert_resumes, check_bad_rows, counts, make_trainer, stream


BAD = (0, 3, 4, 5, 9, 14, 21, 22, 23)


def test_a_run_skips_bad_rows_and_counts_them_and_goes_on_with_the_same_after_a_stop(tmp_path: Path):
    def build(folder: Path, **options: Any) -> Recorder:
        return make_trainer(stream(BAD), folder, **options)

    # 15 good rows are 5 batches: a checkpoint at the end of the pass, and one in the next.
    whole = assert_resumes(build, tmp_path, (2, 5))
    batches = [[1, 2, 6], [7, 8, 10], [11, 12, 13], [15, 16, 17], [18, 19, 20]]
    assert whole.seen == [*batches, *batches[:2]]
    # The rows behind the last batch count with it.
    assert counts(whole) == [4, 5, 5, 6, 9, 13, 14, 14]


def test_rows_left_over_by_an_update_do_not_change_the_count(tmp_path: Path):
    def build(folder: Path, **options: Any) -> Recorder:
        return make_trainer(stream(BAD, buffer_size=7), folder, gradient_accumulation_steps=2, max_steps=5, **options)

    whole = assert_resumes(build, tmp_path, (3,))
    # Two updates in a pass, whose fifth batch is left out: three passes.
    assert len(whole.seen) == 10
    assert counts(whole)[2] > len(BAD)
    assert counts(whole)[4] > 2 * len(BAD)


def test_workers_skip_and_count_too(tmp_path: Path):
    def build(folder: Path, **options: Any) -> Recorder:
        return make_trainer(stream(BAD), folder, dataloader_num_workers=2, max_steps=5, **options)

    whole = assert_resumes(build, tmp_path, (3,))
    # Each worker has a shard of 12 rows, of which it fills two batches.
    batches = [[1, 2, 6], [12, 13, 15], [7, 8, 10], [16, 17, 18]]
    assert whole.seen == [*batches, batches[0]]
    assert counts(whole) == [4, 5, 6, 9, 13, 13]


def test_the_same_weights_as_without_the_bad_rows(tmp_path: Path):
    pairs = [make_trainer(stream(bad, size=size), tmp_path) for bad, size in ((range(18, 24), 24), ((), 18))]
    for trainer in pairs:
        trainer.train()
    assert pairs[0].seen == pairs[1].seen
    assert [counts(trainer)[-1] for trainer in pairs] == [6, 0]
    for one, other in zip(pairs[0].model.parameters(), pairs[1].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_bad_row_is_raised_with_its_place_and_nothing_is_counted(tmp_path: Path):
    trainer = make_trainer(stream((4,), on_bad_row="raise"), tmp_path)
    with pytest.raises(ValueError, match=r"The image in row 4 of the stream .*cannot be decoded"):
        trainer.train()
    assert counts(trainer) == []


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        (0, "All rows of the stream are bad: 24 were skipped, and none is left"),
        (2, "they read 0 rows and skipped 24 bad ones"),
    ],
)
def test_nothing_but_bad_rows_is_an_error(workers: int, text: str, tmp_path: Path):
    with pytest.raises(ValueError, match=text):
        make_trainer(stream(range(24)), tmp_path, dataloader_num_workers=workers).train()


@pytest.mark.distributed
@pytest.mark.timeout(240)
def test_two_processes_stay_together_where_one_meets_bad_rows(tmp_path: Path):
    run_distributed(check_bad_rows, tmp_path, num_processes=2)
