"""Streams on one process and on two, whose parts are unequal."""

import pytest

from hf_contrastive.testing import run_distributed
from tests.training.stream_checks import Messages, PlainStream, check_streams, make_stream_trainer, stream


@pytest.mark.distributed
@pytest.mark.timeout(240)
def test_uneven_streams_neither_hang_nor_lose_rows_on_two_processes():
    run_distributed(check_streams, num_processes=2)


def test_one_process_trains_on_full_batches_and_says_what_is_left():
    trainer = make_stream_trainer(stream(6, 4))
    with Messages() as messages:
        trainer.train()
    assert trainer.seen == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    # Once, though each pass leaves as many.
    assert messages.texts == ["2 rows at the end of the stream fill no batch of 4 and are left out."]
    with Messages() as messages:
        make_stream_trainer(PlainStream(10)).train()
    text = "A pass over the training stream ended after 8 rows. Rows that each process left unused: 2."
    assert messages.texts == [text]


def test_a_stream_below_one_batch_is_refused():
    with pytest.raises(ValueError, match="no update of full batches for each of 1 processes: they read 3 rows"):
        make_stream_trainer(PlainStream(3)).train()


def test_an_error_in_a_stream_is_raised_as_it_is():
    with pytest.raises(ValueError, match="Row 5 cannot be read"):
        make_stream_trainer(PlainStream(9, bad_row=5)).train()
