import inspect
import re

import pytest
import torch

from hf_contrastive.functional import zero_shot_accuracy
from tests.functional.rows import unit_rows


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("chunk_size", [1, None])
def test_accuracy_matches_a_plain_loop(k: int, chunk_size: int | None):
    x, prototypes, labels = unit_rows(30, 3), unit_rows(5, 3, seed=1), torch.arange(30) ** 2 % 4
    hits = [int(label) in (row @ prototypes.T).topk(k).indices.tolist() for row, label in zip(x, labels, strict=True)]
    result = zero_shot_accuracy(7 * x, prototypes, labels, k=k, chunk_size=chunk_size)
    assert result.accuracy.item() == pytest.approx(sum(hits) / 30, abs=1e-9)
    by_class = [[hit for hit, label in zip(hits, labels, strict=True) if label == c] for c in set(labels.tolist())]
    expected = sum(sum(of_class) / len(of_class) for of_class in by_class) / len(by_class)
    assert result.mean_per_class.item() == pytest.approx(expected, abs=1e-9)
    assert result.chance.item() == pytest.approx(k / 5)


def test_equal_prototypes_are_guessed_between_and_a_collapsed_model_is_at_chance():
    result = zero_shot_accuracy(torch.ones(8, 3), torch.ones(4, 3), torch.arange(8) % 4, k=3)
    assert result.accuracy.item() == pytest.approx(result.chance.item(), abs=1e-9)
    assert result.mean_per_class.item() == pytest.approx(3 / 4, abs=1e-9)


@pytest.mark.parametrize(
    ("labels", "k", "message"),
    [
        ([0, 1, 2], 1, "`labels` must be from 0 to 1, but row 2 has 2."),
        ([0, -1, 1], 1, "`labels` must be from 0 to 1, but row 1 has -1."),
        ([0, 0, 0], 3, "`k` must be between 1 and 2, the number of classes, but got 3."),
    ],
)
def test_refuses_classes_that_do_not_exist(labels: list[int], k: int, message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        zero_shot_accuracy(unit_rows(3, 4), unit_rows(2, 4), torch.tensor(labels), k=k)


def test_labels_must_be_as_many_as_rows():
    with pytest.raises(ValueError, match=r"must be one for each of 3 rows, but got shape \[2\]"):
        # Past the shape checks of the test run, which users do not have.
        inspect.unwrap(zero_shot_accuracy)(unit_rows(3, 4), unit_rows(2, 4), torch.tensor([0, 1]))
