"""Rows are read as `datasets` reads them, with the samples of sounds as arrays."""

from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, LargeList, List, Value

from hf_contrastive.data.row_reader import RowReader


SOUNDS = [{"array": [0.5, 1.5], "sampling_rate": 100}, None, {"array": [], "sampling_rate": 50}]


def sounds(array: Any = None) -> Features:
    return Features(
        {"sound": {"array": array or List(Value("float32")), "sampling_rate": Value("int64")}, "text": Value("string")}
    )


@pytest.mark.parametrize("array", [List(Value("float32")), LargeList(Value("float64")), List(Value("int16"))])
def test_samples_of_sounds_are_arrays_of_their_type(array: Any):
    values = [None if s is None else s | {"array": [int(2 * x) for x in s["array"]]} for s in SOUNDS]
    rows = Dataset.from_dict({"sound": values, "text": ["a", None, "c"]}, features=sounds(array))
    found = RowReader(rows)([2, 0, 1, 0])
    assert found["text"] == ["c", "a", None, "a"]
    empty, first, absent, again = found["sound"]
    assert absent is None
    assert first["array"].dtype == array.feature.dtype
    assert (first["array"].tolist(), first["sampling_rate"]) == ([1, 3], 100)
    assert (empty["array"].size, empty["sampling_rate"]) == (0, 50)
    first["array"][:] = 0
    assert again["array"].tolist() == [1, 3]


def test_lists_of_sounds_are_lists_of_such_structs():
    features = Features({"sounds": List(sounds()["sound"])})
    rows = Dataset.from_dict({"sounds": [SOUNDS, []]}, features=features)
    (first, absent, empty), none = RowReader(rows)([0, 1])["sounds"]
    assert np.array_equal(first["array"], [0.5, 1.5])
    assert (absent, empty["sampling_rate"], none) == (None, 50, [])


def test_what_is_no_row_of_numbers_is_as_datasets_has_it():
    features = Features(
        {
            "gaps": {"array": List(Value("float32")), "sampling_rate": Value("int64")},
            "channels": {"array": List(List(Value("float32"))), "sampling_rate": Value("int64")},
            "vector": List(Value("float32")),
        }
    )
    row = {
        "gaps": {"array": [0.5, None], "sampling_rate": 100},
        "channels": {"array": [[0.5], [1.0]], "sampling_rate": 100},
        "vector": [1.0, 2.0],
    }
    assert RowReader(Dataset.from_list([row], features=features))([0]) == {
        name: [value] for name, value in row.items()
    }
