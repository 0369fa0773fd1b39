"""Rows of a batch that show the same."""

import torch

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.testing import random_output
from hf_contrastive.training.duplicates import count_duplicates, text_hashes


def test_rows_of_one_id_are_counted_per_anchor():
    batch = ContrastiveBatch.whole(*random_output(), ids=torch.tensor([0, 0, 0, 1, 1, 2, 3, 4]))
    assert count_duplicates(batch, None) == ((3 * 2 + 2 * 1) / 8, None)


def test_the_same_text_under_another_id_is_counted_apart():
    texts, ids = torch.tensor([9, 9, 9, 9, 5, 5, 6, 7]), torch.tensor([0, 0, 1, 2, 3, 3, 4, 5])
    batch = ContrastiveBatch.whole(*random_output(), ids=ids)
    assert count_duplicates(batch, texts) == ((2 + 2) / 8, (12 + 2 - 2 - 2) / 8)


def test_blank_texts_of_rows_that_lack_one_are_no_duplicates():
    present = {m: torch.ones(8, dtype=torch.bool) for m in ("image", "text")}
    present["text"][:3] = False
    batch = ContrastiveBatch.whole(*random_output(), present=present)
    assert count_duplicates(batch, torch.tensor([0, 0, 0, 1, 1, 2, 3, 4])) == (0.0, 2 / 8)


def test_texts_are_the_same_however_they_are_padded():
    left = text_hashes(
        [
            {"input_ids": torch.tensor([[0, 5, 6]]), "attention_mask": torch.tensor([[0, 1, 1]])},
            {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.tensor([[1, 1, 1]])},
        ]
    )
    right = text_hashes([{"input_ids": torch.tensor([[5, 6, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 0, 0]])}])
    assert left[0] == right[0]
    assert left[1] != right[0]
    assert text_hashes([{"pixel_values": torch.ones(2, 3)}]) is None
