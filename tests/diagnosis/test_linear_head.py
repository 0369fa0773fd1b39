"""Heads: the identity at first, trained by any loss, the same with one seed."""

import pytest
import torch
import torch.nn.functional as F

from hf_contrastive.diagnosis.interventions import contrastive_loss
from hf_contrastive.diagnosis.linear_head import apply_heads, train_heads
from hf_contrastive.losses import get_loss
from tests.diagnosis.conftest import clouds


def test_heads_begin_as_the_identity():
    x = clouds(rows=20)
    heads = train_heads(x, get_loss("clip"), scale=10.0, steps=1, learning_rate=0.0)
    for m, unit in apply_heads(heads, x).items():
        torch.testing.assert_close(unit, F.normalize(x[m], dim=1))


def test_they_learn_what_the_loss_asks_for():
    x = clouds(rows=40)
    heads = train_heads(x, get_loss("clip"), scale=10.0, steps=40, learning_rate=1e-2)
    before = contrastive_loss({m: F.normalize(z, dim=1) for m, z in x.items()}, None, 10.0)
    assert contrastive_loss(apply_heads(heads, x), None, 10.0) < before - 0.1
    assert not any(parameter.requires_grad for head in heads.values() for parameter in head.parameters())


def test_rows_of_one_id_are_no_negatives_of_each_other():
    x, ids = clouds(rows=20), torch.arange(20) // 2
    options = {"scale": 10.0, "steps": 3, "learning_rate": 1e-2}
    plain, known = train_heads(x, get_loss("clip"), **options), train_heads(x, get_loss("clip"), ids=ids, **options)
    assert not torch.equal(plain["image"].weight, known["image"].weight)


def test_one_seed_gives_one_head(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.diagnosis.linear_head.BATCH_SIZE", 8)
    x = clouds(rows=20)
    first, second, other = (
        train_heads(x, get_loss("clip"), scale=10.0, steps=3, seed=seed)["image"].weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
