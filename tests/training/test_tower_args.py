"""What is trained can be said on the command line and in a file, and comes back from a checkpoint."""

from pathlib import Path

from transformers import HfArgumentParser

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.training.tower_args import TowerTrainingArguments


OWN = sorted(set(vars(TowerTrainingArguments)["__annotations__"]) - {"_VALID_DICT_FIELDS"})


def test_every_argument_can_be_given_on_the_command_line(tmp_path: Path):
    line = [
        f"--output_dir={tmp_path}",
        "--use_cpu",
        "--freeze_towers",
        "image",
        "text",
        "--unfreeze_last",
        '{"text": 1}',
    ]
    line += ["--freeze_projections", "image", "--tower_learning_rates", '{"text": 1e-3, "text_projection": 1}']
    line += ["--layer_decay", "0.5", "--ema_decay", "0.9", "--evaluate_ema", "--save_ema"]
    # By default the parser passes None for `debug`, a str, to which run-time type checks object.
    line += ["--debug", "underflow_overflow"]
    (args,) = HfArgumentParser(ContrastiveTrainingArguments).parse_args_into_dataclasses(line)
    assert {name: getattr(args, name) for name in OWN} == {
        "ema_decay": 0.9,
        "evaluate_ema": True,
        "freeze_projections": ["image"],
        "freeze_towers": ["image", "text"],
        "layer_decay": 0.5,
        "save_ema": True,
        "tower_learning_rates": {"text": 1e-3, "text_projection": 1},
        "unfreeze_last": {"text": 1},
    }
    again = ContrastiveTrainingArguments(
        **{name: value for name, value in args.to_dict().items() if name in ("output_dir", "use_cpu", *OWN)}
    )
    assert {name: getattr(again, name) for name in OWN} == {name: getattr(args, name) for name in OWN}


def test_everything_is_trained_by_default(tmp_path: Path):
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True)
    assert not any(getattr(args, name) for name in OWN)
