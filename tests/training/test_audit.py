"""What a run says of its negatives at the start."""

import logging as python_logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import CLIPModel, set_seed
from transformers.utils import logging

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_batch, rank, world_size
from hf_contrastive.functional.chance import chance_of_sigmoid, chance_of_softmax
from hf_contrastive.hard_negatives import HardNegatives
from hf_contrastive.losses import CLIP, ContrastiveLoss, InfoNCE, SigLIP, total
from hf_contrastive.testing import random_output, run_distributed
from hf_contrastive.training.audit import NegativesAudit, global_batch_size
from tests.conftest import make_dataset, tiny_siglip
from tests.training.test_trainer import make_trainer, with_ids


def make_args(folder: Path, **kwargs: Any) -> ContrastiveTrainingArguments:
    return ContrastiveTrainingArguments(str(folder), use_cpu=True, per_device_train_batch_size=8, **kwargs)


def seen(args: ContrastiveTrainingArguments, loss: ContrastiveLoss, **batch: Any) -> NegativesAudit:
    """An audit that has seen one batch of 8 rows and reported."""
    audit = NegativesAudit(args, loss)
    see(audit, ContrastiveBatch.whole(*random_output(), **batch))
    audit.report()
    return audit


def see(audit: NegativesAudit, batch: ContrastiveBatch, inputs: dict[str, Tensor] | None = None) -> None:
    audit.see([inputs or {}], batch, total(audit.loss(batch)))


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the audit warns of."""
    logger = logging.get_logger("hf_contrastive.training.audit")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


# ---- Numbers ----


def test_negatives_are_the_other_rows_of_the_batch(tmp_path: Path):
    logs = seen(make_args(tmp_path, gradient_accumulation_steps=3), CLIP()).logs_once(last=False)
    expected = {"negatives": 7, "negatives_other_processes": 0, "negatives_queue": 0, "batch": 24}
    assert {name: logs[f"audit/{name}"] for name in expected} == expected


def test_the_first_loss_stands_beside_that_of_chance(tmp_path: Path):
    logs = seen(make_args(tmp_path), CLIP()).logs_once(last=False)
    assert logs["audit/first_loss"] == pytest.approx(total(CLIP()(ContrastiveBatch.whole(*random_output()))).item())
    assert logs["audit/chance_loss"] == pytest.approx(math.log(8))
    # The scale is 7: coinciding pairs, orthogonal negatives.
    assert logs["audit/lowest_loss"] == pytest.approx(math.log(1 + 7 * math.exp(-7.0)))


def test_numbers_are_logged_once(tmp_path: Path):
    audit = seen(make_args(tmp_path), CLIP())
    assert audit.logs_once(last=False)
    assert audit.logs_once(last=True) == {}


def test_nothing_seen_is_nothing_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert NegativesAudit(make_args(tmp_path), CLIP()).logs_once(last=True) == {}
    assert capsys.readouterr().out == ""


def test_chance_is_the_loss_of_embeddings_that_tell_nothing():
    x = torch.ones(8, 1, dtype=torch.float64)
    for loss, chance in ((CLIP(), chance_of_softmax), (SigLIP(), chance_of_sigmoid)):
        # The bias that makes the chance of a match one in eight.
        bias = torch.tensor(-math.log(7.0) - 1.0, dtype=torch.float64)
        batch = ContrastiveBatch.whole({"image": x, "text": x}, torch.ones((), dtype=torch.float64), bias)
        assert total(loss(batch)).item() == pytest.approx(chance(8), abs=1e-9)


@pytest.mark.parametrize("loss", [CLIP(), InfoNCE(anchor="image"), InfoNCE(anchor="image", symmetric=False)])
def test_hard_negatives_count_in_the_loss_of_chance_and_the_lowest(tmp_path: Path, loss: ContrastiveLoss):
    def batch(x: Tensor, hard: Tensor, scale: float) -> ContrastiveBatch:
        embeds, scales = {"image": x, "text": x}, torch.tensor(scale, dtype=torch.float64)
        return ContrastiveBatch.whole(embeds, scales, hard_negatives=HardNegatives({"text": hard}))

    # Embeddings that tell nothing are all the same; perfect ones are orthogonal to all but their partners.
    same, orthogonal = torch.ones(24, 1, dtype=torch.float64), torch.eye(24, dtype=torch.float64)
    audit = NegativesAudit(make_args(tmp_path), loss)
    see(audit, batch(orthogonal[:8], orthogonal[8:], 3.0))
    audit.report()
    logs = audit.logs_once(last=False)
    chance = total(loss(batch(same[:8], same[8:], 3.0))).item()
    lowest = total(loss(batch(orthogonal[:8], orthogonal[8:], 3.0))).item()
    assert logs["audit/chance_loss"] == pytest.approx(chance, abs=1e-9)
    assert logs["audit/lowest_loss"] == pytest.approx(lowest, abs=1e-9)
    # In the mean over both directions, of which one has texts for keys, or in the only one.
    assert logs["audit/negatives_hard"] == (8 if getattr(loss, "symmetric", True) else 16)


def test_expected_matches_are_the_sigmoids_of_all_logits(tmp_path: Path):
    output = random_output()
    logits = output.logit_scale * output.embeds["image"] @ output.embeds["text"].T + output.logit_bias
    logs = seen(make_args(tmp_path), SigLIP()).logs_once(last=False)
    assert logs["audit/expected_matches"] == pytest.approx(logits.sigmoid().sum(dim=1).mean().item(), abs=1e-9)


# ---- What is printed ----


def test_the_table_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    args = make_args(tmp_path, gradient_accumulation_steps=4, queue_size=4096)
    seen(args, SigLIP(), ids=torch.tensor([0, 0, 1, 2, 3, 4, 5, 6]))
    assert capsys.readouterr().out.splitlines() == [
        "Negatives audit",
        "  negatives per anchor  7: 7 of its process, 0 of others",
        "  from the queue        up to 4,096 past embeddings, from 10% of training on",
        "  examples per update   32 (4 batches per update, which adds no negatives: set accumulate_negatives)",
        "  same id, left out     0.25 per anchor",
        "  same text, kept       unknown: the batches hold no ids and no tokens",
        "  loss                  5.878 at first, 3.014 by chance (sigmoid over 8)",
        "  scale                 7.00, a temperature of 0.143, learned: perfect pairs among orthogonal negatives have a "
        "softmax loss of 0.0064",
        "  bias                  -2.00 (-log batch is -2.08): 2.16 of 8 expected to match, 1 does",
    ]


def test_the_table_names_hard_negatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    hard = random_output(16, seed=1).embeds["text"]
    seen(make_args(tmp_path), CLIP(), hard_negatives=HardNegatives({"text": hard}))
    table = capsys.readouterr().out
    assert "  hard negatives        16 of text, for anchors of another modality\n" in table
    assert "2.629 by chance (softmax over 8 to 24)" in table


def test_same_texts_that_are_negatives_are_warned_of(tmp_path: Path, warnings: pytest.LogCaptureFixture):
    audit = NegativesAudit(make_args(tmp_path), CLIP())
    tokens = torch.tensor([[1, 2], [1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [13, 14]])
    see(audit, ContrastiveBatch.whole(*random_output()), {"input_ids": tokens})
    audit.report()
    assert "same text and are each other's negatives: 0.25 per anchor" in warnings.text


@pytest.mark.parametrize(("bias", "warned"), [(-10.0, True), (8.0, False), (-math.log(8), False)])
def test_a_bias_far_from_what_the_batch_wants_is_warned_of(
    tmp_path: Path, warnings: pytest.LogCaptureFixture, bias: float, warned: bool
):
    output = random_output()
    batch = ContrastiveBatch.whole(output.embeds, torch.tensor(1.0), torch.tensor(bias))
    audit = NegativesAudit(make_args(tmp_path), SigLIP())
    see(audit, batch)
    audit.report()
    assert ('should start at -log(8) = -2.08: set `logit_bias="auto"`' in warnings.text) == warned


def test_a_fixed_scale_that_no_softmax_can_learn_with_is_warned_of(tmp_path: Path, warnings: pytest.LogCaptureFixture):
    output = random_output()
    audit = NegativesAudit(make_args(tmp_path, learn_logit_scale=False), CLIP())
    see(audit, ContrastiveBatch.whole(output.embeds, torch.tensor(1.0, dtype=torch.float64)))
    audit.report()
    assert "The fixed scale 1.00 is low for 8 candidates" in warnings.text


# ---- In the trainer ----


def test_the_trainer_reports_after_four_batches_and_logs(
    clip: CLIPModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trainer = make_trainer(clip, with_ids(40, [0, 0, *range(2, 40)]), tmp_path, max_steps=5)
    trainer.train()
    assert capsys.readouterr().out.count("Negatives audit") == 1
    logged = [log["step"] for log in trainer.state.log_history if "audit/negatives" in log]
    assert logged == [4]


def test_a_shorter_run_is_reported_at_its_end(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=1)
    trainer.train()
    log = trainer.state.log_history[-1]
    assert (log["audit/negatives"], log["audit/duplicates_unmasked"]) == (7, 0.0)
    assert log["audit/first_loss"] == pytest.approx(trainer.state.log_history[0]["loss"], abs=1e-4)


def test_the_audit_can_be_left_out(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=1, negatives_audit=False)
    trainer.train()
    assert "Negatives audit" not in capsys.readouterr().out
    assert not [name for log in trainer.state.log_history for name in log if name.startswith("audit/")]


def test_accumulated_batches_count_where_they_are_negatives(tmp_path: Path):
    args = make_args(tmp_path, gradient_accumulation_steps=4)
    args.accumulate_negatives = False
    assert global_batch_size(args) == 8
    args.accumulate_negatives = True
    assert global_batch_size(args) == 32


# ---- On two processes ----


def check_an_audit_of_two_processes(folder: str) -> None:
    assert global_batch_size(make_args(Path(folder), accelerator_config={"split_batches": True})) == 8
    args = make_args(Path(folder))
    assert global_batch_size(args) == 16
    output = random_output()
    mine = slice(4 * rank(), 4 * rank() + 4)
    part = output._replace(embeds={m: x[mine] for m, x in output.embeds.items()})
    # Rows 0 and 4 of different processes have one id, rows 1 and 5 one text.
    ids, tokens = torch.tensor([0, 1, 2, 3, 0, 5, 6, 7]), torch.tensor([[10], [1], [2], [3], [4], [1], [6], [7]])
    audit = NegativesAudit(args, SigLIP())
    see(audit, gather_batch(part, ids=ids[mine]), {"input_ids": tokens[mine]})
    audit.report()
    logs = audit.logs_once(last=False)
    assert (logs["audit/negatives"], logs["audit/negatives_other_processes"]) == (7, 4)
    assert (logs["audit/duplicates_masked"], logs["audit/duplicates_unmasked"]) == (0.25, 0.25)
    whole = ContrastiveBatch.whole(*output, ids=ids)
    assert logs["audit/first_loss"] == pytest.approx(total(SigLIP()(whole)).item(), abs=1e-9)
    alone = NegativesAudit(args, SigLIP())
    see(alone, whole)
    alone.report()
    assert logs["audit/expected_matches"] == pytest.approx(
        alone.logs_once(last=False)["audit/expected_matches"], abs=1e-9
    )


def check_scale_and_bias_on_two_processes(folder: str) -> None:
    """A model that starts differently on each process, whose bias the loss does not use, without a search for that."""
    for loss, options in (("clip", {"ddp_find_unused_parameters": False}), ("siglip", {"logit_bias": "auto"})):
        set_seed(rank())
        model = tiny_siglip()
        trainer = make_trainer(model, make_dataset(48), Path(folder), loss=loss, max_steps=3, seed=0, **options)
        trainer.train()
        for name in ("logit_scale", "logit_bias"):
            values = trainer._over_processes(getattr(model, name).detach())
            assert values.shape == (world_size(),)
            assert values[0] == values[1], f"{name} differs between processes with {loss}: {values}."
        assert model.logit_scale.item() != 0.0
        # Three steps with a rate of 0.01 from where it starts.
        assert model.logit_bias.item() == (0.0 if loss == "clip" else pytest.approx(-math.log(16), abs=0.05))


def check_everything(folder: str) -> None:
    python_logging.disable(python_logging.WARNING)
    check_an_audit_of_two_processes(folder)
    check_scale_and_bias_on_two_processes(folder)


@pytest.mark.distributed
@pytest.mark.timeout(120)
def test_two_processes_count_alike_and_keep_one_temperature(tmp_path: Path):
    run_distributed(check_everything, str(tmp_path), num_processes=2)
