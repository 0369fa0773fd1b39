"""From the inputs of an update to chunks."""

import pytest
import torch

from hf_contrastive.hard_negatives import input_name
from hf_contrastive.training.micro_batches import split_micro_batches, split_rows


def test_rows_are_split_in_order_and_scalars_go_everywhere():
    inputs = {"x": torch.arange(5), "y": torch.arange(10).view(5, 2), "return_loss": True, "scale": torch.tensor(2.0)}
    chunks = split_rows(inputs, 2)
    assert [chunk["x"].tolist() for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert [len(chunk["y"]) for chunk in chunks] == [2, 2, 1]
    assert all(chunk["return_loss"] is True and chunk["scale"] == 2 for chunk in chunks)


def test_a_chunk_as_large_as_the_batch_is_the_batch():
    assert len(split_rows({"x": torch.arange(5)}, 5)) == len(split_rows({"x": torch.arange(5)}, 99)) == 1


@pytest.mark.parametrize("value", [["a", "b"], {"a": torch.ones(2)}])
def test_what_has_no_rows_is_refused_by_name(value: object):
    kind = type(value).__name__
    with pytest.raises(ValueError, match=rf"`encode_chunk_size` splits .* but the input `boxes` is a {kind}\."):
        split_rows({"x": torch.ones(2), "boxes": value}, 1)


def test_different_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match=r"these numbers of rows: \{'x': 4, 'patches': 7\}\."):
        split_rows({"x": torch.ones(4), "patches": torch.ones(7)}, 2)


def test_inputs_without_rows_are_refused():
    with pytest.raises(ValueError, match=r"these numbers of rows: \{\}\."):
        split_rows({"return_loss": True}, 2)


def test_micro_batches_of_different_lengths_are_split_alone_and_their_marks_joined():
    batches = [
        {"input_ids": torch.ones(3, length), "present_text": torch.tensor([True, False, True]), "example_ids": ids}
        for length, ids in ((4, torch.arange(3)), (6, torch.arange(3, 6)))
    ]
    chunks, present, ids = split_micro_batches(batches, 2)
    assert [list(chunk["input_ids"].shape) for chunk in chunks] == [[2, 4], [1, 4], [2, 6], [1, 6]]
    assert present["text"].tolist() == [True, False, True] * 2
    assert ids is not None
    assert ids.tolist() == list(range(6))


def test_without_a_size_every_micro_batch_is_a_chunk_whatever_it_holds():
    chunks, present, ids = split_micro_batches([{"x": torch.ones(3)}, {"x": torch.ones(2), "names": ["a", "b"]}], None)
    assert [len(chunk["x"]) for chunk in chunks] == [3, 2]
    assert (present, ids) == ({}, None)


@pytest.mark.parametrize(
    ("numbers", "told"), [((2, 1), r"\[\{'text': 2\}, \{'text': 1\}\]"), ((2, None), r"\[\{'text': 2\}, \{\}\]")]
)
def test_micro_batches_with_other_numbers_of_hard_negatives_are_refused(numbers: tuple[int | None, ...], told: str):
    batches = [
        {"input_ids": torch.ones(3, 4)}
        | ({} if number is None else {input_name("text", "input_ids"): torch.ones(3, number, 4)})
        for number in numbers
    ]
    with pytest.raises(ValueError, match=rf"`accumulate_negatives` .* numbers of hard negatives, but .* are {told}\."):
        split_micro_batches(batches, None)
    # Padded to another length, they are as many.
    batches[1] = {"input_ids": torch.ones(3, 5), input_name("text", "input_ids"): torch.ones(3, 2, 6)}
    chunks, _, _ = split_micro_batches(batches, 2)
    assert [chunk[input_name("text", "input_ids")].shape[:2] for chunk in chunks] == [(2, 2), (1, 2)] * 2


def test_marks_in_some_micro_batches_only_are_refused():
    x = torch.ones(2)
    with pytest.raises(
        ValueError, match=r"all micro-batches of an update or in none.*\[\['text'\], \['example_ids'\]\]"
    ):
        split_micro_batches([{"x": x, "present_text": x > 0}, {"x": x, "example_ids": torch.arange(2)}], None)
