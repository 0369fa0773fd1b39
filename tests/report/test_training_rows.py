"""What a card tells of the training: batch, negatives, temperature, optimizer, time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.report import write_model_card
from hf_contrastive.report.facts import TrainingFacts
from tests.report.runs import FACTS, METRICS, front_matter, make_result, write_card


def test_the_card_says_how_the_model_was_trained(tmp_path: Path):
    text = write_card(tmp_path, learn_logit_scale=False, learning_rate=3e-4, weight_decay=0.1)
    for line in (
        "`clip` ([paper](https://huggingface.co/papers/2103.00020))",
        "With its options: `CLIP(chunk_size=None)`.",
        "| data | embedded scenes, 640 training pairs |",
        "| steps | 20 |",
        "| effective batch | 16 pairs an update |",
        "| negatives | 15 other items per row |",
        "| temperature | 1 / 50.0 at the end, fixed |",
        "peak learning rate 0.0003, weight decay 0.1, linear schedule, gradients clipped to a norm of 1 |",
        "| seed | 3 |",
    ):
        assert line in text


def test_the_audit_says_what_negatives_were(tmp_path: Path):
    audit = {
        "audit/negatives": 31.0,
        "audit/negatives_other_processes": 16.0,
        "audit/negatives_queue": 64.0,
        "audit/duplicates_unmasked": 0.25,
    }
    text = write_card(tmp_path, negatives=audit, processes=2)
    assert (
        "| negatives | 31 other items per row, 16 of them from other processes, and up to 64 from a queue of past "
        "batches, after 10% of the steps, in the first batches 0.25 with the same text among them |" in text
    )
    assert "| effective batch | 16 pairs an update, 8 on each of 2 processes |" in text
    assert "each row had 0.25 others with the same text among its negatives" in text


def test_an_objective_without_negatives_claims_none(tmp_path: Path):
    assert "| negatives | none, " in write_card(tmp_path, loss="VICReg()")


def test_a_dataset_of_the_hub_is_linked(tmp_path: Path):
    text = write_card(tmp_path, dataset="your-org/captions")
    front = front_matter(text)
    assert front["datasets"] == ["your-org/captions"]
    assert front["model-index"][0]["results"][0]["dataset"]["type"] == "your-org/captions"
    assert "[your-org/captions](https://huggingface.co/datasets/your-org/captions), 640 training pairs" in text


def test_batches_that_are_each_others_negatives_count_without_an_audit(tmp_path: Path):
    options: dict[str, Any] = {"gradient_accumulation_steps": 4, "accumulate_negatives": True, "encode_chunk_size": 8}
    text = write_card(tmp_path, **options)
    assert "| negatives | 63 other items per row |" in text
    assert "64 pairs an update, 4 batches accumulated that are each other's negatives, embedded 8 at a time" in text
    assert "| negatives | 15 other items" in write_card(tmp_path / "b", gradient_accumulation_steps=4)


def test_a_temperature_for_each_pair_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "logit_scale/audio_text", 20.0)
    monkeypatch.setitem(METRICS, "logit_scale/image_text", 40.0)
    told = "one for each pair, at the end 1 / 20.0 audio and text, 1 / 40.0 image and text, learned"
    assert f"| temperature | {told} |" in write_card(tmp_path)


def test_a_temperature_that_does_nothing_is_not_reported(tmp_path: Path):
    text = write_card(tmp_path, loss="VICReg()", max_logit_scale=50.0)
    assert "| temperature | not used by the objective |" in text
    assert "upper bound" not in text


def test_what_else_shaped_the_weights_is_told(tmp_path: Path):
    options: dict[str, Any] = {"warmup_steps": 5, "tower_learning_rates": {"text": 1e-5}, "layer_decay": 0.8}
    text = write_card(tmp_path, ema_decay=0.99, save_ema=True, **options)
    assert "that of text 1e-05, times 0.8 for each layer down" in text
    assert "linear schedule after 5 steps of warm-up" in text
    assert "| weights | an exponential moving average that keeps 0.99 of itself at each step |" in text


def test_the_time_of_a_resumed_run_is_that_since(tmp_path: Path):
    result = replace(make_result("clip"), resumed_at=12)
    args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
    write_model_card(tmp_path, [result], args, TrainingFacts(**FACTS))
    assert "61 s of training since step 12, from where it was resumed |" in (tmp_path / "README.md").read_text()


def test_mixed_datasets_are_all_linked(tmp_path: Path):
    text = write_card(tmp_path, dataset=["me/a", "you/b"])
    assert front_matter(text)["datasets"] == ["me/a", "you/b"]
    links = " and ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in ("me/a", "you/b"))
    assert f"| data | {links}, 640 training pairs |" in text


def test_what_a_loss_of_the_authors_own_compares_is_not_claimed(tmp_path: Path):
    told = "15 other items per row, where the author's objective compares with them"
    assert f"| negatives | {told} |" in write_card(tmp_path, loss="MyLoss()")


def test_the_bias_at_the_end_is_told(tmp_path: Path):
    assert "| bias | -9.50 at the end |" in write_card(tmp_path, loss="Siglip()", biases=(-9.5,))
    assert "| bias |" not in write_card(tmp_path / "b")


def test_a_bias_that_was_measured_is_told_before_that_of_the_model(tmp_path: Path):
    of_pairs = {"logit_bias": -2.5, "logit_bias/image_text": -2.0, "logit_bias/audio_text": -3.0}
    for metrics, told in (({"logit_bias": -2.5}, "-2.50"), (of_pairs, "-2.00, -3.00")):
        own = replace(make_result("siglip"), loss="SigLIP()", metrics=METRICS | metrics)
        args = ContrastiveTrainingArguments(str(tmp_path / "output"), use_cpu=True)
        write_model_card(tmp_path, [own], args, TrainingFacts(**FACTS))
        assert f"| bias | {told} at the end |" in (tmp_path / "README.md").read_text(encoding="utf-8")
