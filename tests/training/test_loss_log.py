"""What is kept between two logs."""

from pathlib import Path

import torch

from hf_contrastive.training.loss_log import LossLog


def filled(*values: float) -> LossLog:
    log = LossLog()
    for value in values:
        log.begin()
        log.add({"clip": torch.tensor(value)})
        log.accept()
    return log


def test_what_is_read_continues_what_was_written(tmp_path: Path):
    filled(1.0, 2.0).save(tmp_path / "log", torch.tensor(3.0))
    log = LossLog()
    log.load(tmp_path / "log")
    log.begin()
    log.add({"clip": torch.tensor(6.0)})
    log.accept()
    logs = {"loss": 3.0}
    log.take(logs, float)
    assert logs == {"loss": 3.0, "loss/clip": 3.0}
    assert log.pop_summed() == 3.0
    assert log.pop_summed() is None


def test_what_is_read_goes_where_the_terms_to_come_are(tmp_path: Path):
    # As an accelerator's terms, which cannot be stacked with those of the CPU.
    filled(1.0).save(tmp_path / "log", torch.tensor(3.0))
    log = LossLog()
    log.load(tmp_path / "log", "meta")
    assert log.pop_summed().device.type == "meta"
    assert log.accepted == 1
    means = []
    log.take({"loss": 1.0}, lambda mean: means.append(mean.device.type) or 0.0)
    assert means == ["meta"]
