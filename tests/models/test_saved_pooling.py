"""Poolings that `sentence-transformers` has written."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from transformers import BertModel

from hf_contrastive.models import MultiEncoder
from tests.models.test_multi_encoder import config_of


OLD = {f"pooling_mode_{name}": False for name in ("cls_token", "max_tokens", "mean_tokens", "lasttoken")}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"word_embedding_dimension": 16, **OLD, "pooling_mode_cls_token": True}, "cls"),
        ({**OLD, "pooling_mode_mean_tokens": True}, "mean"),
        ({"embedding_dimension": 16, "pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_a_tower_is_pooled_as_it_was_trained(written: dict[str, Any], expected: str, tmp_path: Path):
    save(tmp_path, written)
    model = MultiEncoder.from_towers({"text": tmp_path, "other": 3})
    assert model.config.modalities["text"].pooling == expected
    model = MultiEncoder.from_towers({"text": tmp_path, "other": 3}, pooling={"text": "attention"})
    assert model.config.modalities["text"].pooling == "attention", "what was asked for comes first"


@pytest.mark.parametrize("written", [{"pooling_mode": "max"}, {"pooling_mode": ["cls", "mean"]}])
def test_a_pooling_that_is_not_to_be_had_is_named(
    written: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    logger = logging.getLogger("hf_contrastive.models.saved_pooling")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    save(tmp_path, written)
    model = MultiEncoder.from_towers({"text": tmp_path, "other": 3})
    assert model.config.modalities["text"].pooling == "mean"
    assert "was trained with the pooling" in caplog.text


def save(folder: Path, written: dict[str, Any]) -> None:
    BertModel(config_of("bert")).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(written), encoding="utf-8")
