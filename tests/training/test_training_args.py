"""What the training arguments take and refuse."""

import math
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser, TrainingArguments

from hf_contrastive import ContrastiveTrainingArguments


def make(folder: Path, **kwargs: Any) -> ContrastiveTrainingArguments:
    return ContrastiveTrainingArguments(str(folder), use_cpu=True, **kwargs)


def test_defaults(tmp_path: Path):
    args = make(tmp_path)
    assert (args.loss, args.loss_kwargs, args.modalities) == ("clip_divergence", None, None)
    assert (args.logit_scale, args.learn_logit_scale, args.max_logit_scale) == (None, True, 100.0)
    assert args.remove_unused_columns is False


def test_all_other_defaults_are_those_of_transformers(tmp_path: Path):
    ours, theirs = make(tmp_path).to_dict(), TrainingArguments(str(tmp_path), use_cpu=True).to_dict()
    differ = {name for name, value in theirs.items() if ours[name] != value}
    # No copies to an accelerator, no pinned memory.
    assert differ <= {"remove_unused_columns", "dataloader_pin_memory", "logging_dir"}


def test_options_of_the_loss_are_read_as_json(tmp_path: Path):
    assert make(tmp_path, loss_kwargs='{"weight": 0.5, "anchor": null}').loss_kwargs == {"weight": 0.5, "anchor": None}
    assert make(tmp_path, loss_kwargs={"weight": 0.5}).loss_kwargs == {"weight": 0.5}


@pytest.mark.parametrize("text", ["weight=0.5", "0.5", "weight: 0.5"])
def test_options_that_are_no_json_object_are_refused(tmp_path: Path, text: str):
    with pytest.raises(ValueError, match=rf"loss_kwargs must be a JSON object such as .*, got '{text}'"):
        make(tmp_path, loss_kwargs=text)


@pytest.mark.parametrize("text", ["{weight: 0.5}", "{'weight': 0.5}", "{"])
def test_broken_json_is_reported_with_its_argument(tmp_path: Path, text: str):
    with pytest.raises(ValueError, match="loss_kwargs"):
        make(tmp_path, loss_kwargs=text)


@pytest.mark.parametrize("name", ["logit_scale", "logit_scale_learning_rate", "max_logit_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_scales_and_rates_must_be_positive_and_finite(tmp_path: Path, name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, but got {value}"):
        make(tmp_path, **{name: value})


def test_a_start_above_the_bound_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"logit_scale must not be above max_logit_scale, but got 101.0 and 100.0"):
        make(tmp_path, logit_scale=101.0)
    assert make(tmp_path, logit_scale=100.0).logit_scale == 100.0


@pytest.mark.parametrize("size", [1, 0, -5])
def test_a_pool_of_one_row_is_refused(tmp_path: Path, size: int):
    with pytest.raises(ValueError, match=f"eval_pool_size must be at least 2, but got {size}"):
        make(tmp_path, eval_pool_size=size)


def test_the_token_is_not_written_down(tmp_path: Path):
    args = make(tmp_path, hub_token="hf_secret")
    assert "hf_secret" not in args.to_json_string()
    assert "hf_secret" not in str(args)


def test_the_token_is_not_shown(tmp_path: Path):
    assert "hf_secret" not in repr(TrainingArguments(str(tmp_path), use_cpu=True, hub_token="hf_secret"))
    assert "hf_secret" not in repr(make(tmp_path, hub_token="hf_secret"))


def test_every_argument_has_help():
    parser = HfArgumentParser(ContrastiveTrainingArguments)
    own = set(vars(ContrastiveTrainingArguments)["__annotations__"])
    without = [action.dest for action in parser._actions if action.dest in own and not action.help]
    assert own
    assert not without


def test_arguments_survive_a_round_trip(tmp_path: Path):
    args = make(tmp_path, loss="info_nce", loss_kwargs={"anchor": "text"}, logit_scale=20.0, modalities=["a", "b"])
    again = ContrastiveTrainingArguments(
        **{name: value for name, value in args.to_dict().items() if name in ("output_dir", "use_cpu", *OWN)}
    )
    assert {name: getattr(again, name) for name in OWN} == {name: getattr(args, name) for name in OWN}


OWN = sorted(set(vars(ContrastiveTrainingArguments)["__annotations__"]) - {"_VALID_DICT_FIELDS"})
