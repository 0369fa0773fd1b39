"""Rows of a batch that show the same."""

import torch
from transformers import BertConfig

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.models import MultiEncoder
from hf_contrastive.testing import random_output
from hf_contrastive.training.duplicates import count_duplicates, text_hashes, token_inputs
from tests.conftest import LAYERS, TEXT


def test_rows_of_one_id_are_counted_per_anchor():
    batch = ContrastiveBatch.whole(*random_output(), ids=torch.tensor([0, 0, 0, 1, 1, 2, 3, 4]))
    assert count_duplicates(batch, {}) == ((3 * 2 + 2 * 1) / 8, None)


def test_the_same_text_under_another_id_is_counted_apart():
    texts, ids = torch.tensor([9, 9, 9, 9, 5, 5, 6, 7]), torch.tensor([0, 0, 1, 2, 3, 3, 4, 5])
    batch = ContrastiveBatch.whole(*random_output(), ids=ids)
    assert count_duplicates(batch, {"text": texts}) == ((2 + 2) / 8, (12 + 2 - 2 - 2) / 8)


def test_blank_texts_of_rows_that_lack_one_are_no_duplicates():
    present = {m: torch.ones(8, dtype=torch.bool) for m in ("image", "text")}
    present["text"][:3] = False
    batch = ContrastiveBatch.whole(*random_output(), present=present)
    assert count_duplicates(batch, {"text": torch.tensor([0, 0, 0, 1, 1, 2, 3, 4])}) == (0.0, 2 / 8)


def test_texts_of_a_modality_of_another_name_are_known_by_the_model():
    towers = {"query": BertConfig(**LAYERS, **TEXT), "document": BertConfig(**LAYERS, **TEXT), "product": 3}
    inputs = token_inputs(MultiEncoder.from_towers(towers, width=4))
    assert sorted(inputs) == ["document", "query"]
    batch = ContrastiveBatch.whole(
        random_output(modalities=sorted(towers)).embeds,
        torch.tensor(7.0, dtype=torch.float64),
        present={m: torch.arange(8) > (2 if m == "query" else -1) for m in towers},
    )
    tokens = {"query": [0, 0, 0, 1, 1, 2, 3, 4], "document": [*range(8)]}
    chunk = {inputs[m][0]: torch.tensor(rows).unsqueeze(1) for m, rows in tokens.items()}
    assert count_duplicates(batch, text_hashes([chunk], inputs)) == (0.0, 2 / 8)


def test_texts_are_the_same_however_they_are_padded():
    left = text_hashes(
        [
            {"input_ids": torch.tensor([[0, 5, 6]]), "attention_mask": torch.tensor([[0, 1, 1]])},
            {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.tensor([[1, 1, 1]])},
        ]
    )
    right = text_hashes([{"input_ids": torch.tensor([[5, 6, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 0, 0]])}])
    assert left["text"][0] == right["text"][0]
    assert left["text"][1] != right["text"][0]
    assert text_hashes([{"pixel_values": torch.ones(2, 3)}]) == {}
