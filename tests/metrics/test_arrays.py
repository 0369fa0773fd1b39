"""Every kind of rows that users hold becomes one tensor of the same numbers."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from hf_contrastive.metrics.arrays import as_embeddings, as_numbers
from tests.functional.rows import random_rows


ROWS = random_rows(6, 4).float()
ARRAY = ROWS.numpy()
UNWRITABLE = ARRAY.copy()
UNWRITABLE.flags.writeable = False


@pytest.mark.parametrize(
    "rows",
    [
        np.ascontiguousarray(ARRAY[::-1])[::-1],
        ARRAY.astype(ARRAY.dtype.newbyteorder(">")),
        UNWRITABLE,
        list(ARRAY),
        tuple(ROWS),
        list(ROWS.clone().requires_grad_()),
        list(ROWS.double()),
    ],
    ids=["backwards", "big-endian", "read-only", "arrays", "tensors", "tensors with gradients", "double"],
)
def test_rows_of_any_kind_are_the_same_numbers(rows: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_embeddings(rows, "predictions")
    assert torch.equal(found.float(), ROWS)
    assert not found.requires_grad


def test_lists_of_half_precision_tensors_keep_their_type():
    rows = ROWS.bfloat16()
    assert torch.equal(as_embeddings(list(rows), "predictions"), rows)


def test_ids_may_be_a_list_of_tensors():
    assert as_numbers(list(torch.tensor([3, 1, 2])), "prediction_ids").tolist() == [3, 1, 2]


def test_rows_of_different_lengths_are_refused():
    for rows in ([torch.ones(2), torch.ones(3)], [[1.0, 2.0], [1.0]]):
        with pytest.raises(ValueError, match="`predictions` must hold rows of numbers, all of one length"):
            as_embeddings(rows, "predictions")
