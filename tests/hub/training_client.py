"""Trainings that push to the Hub of the environment, in one process: what each did, as JSON in the last line."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from huggingface_hub import HfApi, snapshot_download
from transformers import CLIPModel

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments, PushError
from hf_contrastive.hub import failures, repositories
from tests.conftest import make_dataset, make_inputs, tiny_clip


FOLDER, SECRET = Path(sys.argv[1]), sys.argv[2]
STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")


def trainer_of(name: str, **options: Any) -> ContrastiveTrainer:
    common: dict[str, Any] = {"loss": "clip", "per_device_train_batch_size": 8, "max_steps": 2, "save_steps": 1}
    common |= {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "learning_rate": 1e-2}
    common |= {"push_to_hub": True, "hub_model_id": f"tester/{name}", "hub_token": SECRET, "hub_always_push": True}
    args = ContrastiveTrainingArguments(str(FOLDER / name), **(common | options))
    torch.manual_seed(0)
    return ContrastiveTrainer(tiny_clip(), args, train_dataset=make_dataset())


def embeds(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        output = model.eval()(**make_inputs(4))
    return torch.cat([output.image_embeds, output.text_embeds])


def train(name: str, **options: Any) -> dict[str, Any]:
    trainer = trainer_of(name, **options)
    trainer.train()
    api = HfApi(token=SECRET)
    revision = options.get("hub_revision")
    report = {
        "step": trainer.state.global_step,
        "files": api.list_repo_files(f"tester/{name}", revision=revision),
        "commits": [commit.title for commit in api.list_repo_commits(f"tester/{name}", revision=revision)],
        "unpushed": trainer.unpushed,
    }
    try:
        trainer.push_to_hub()
        # In the environment: transformers 5.20 does not hand `token` on to the request for the configuration.
        with mock.patch.dict(os.environ, HF_TOKEN=SECRET):
            copy = CLIPModel.from_pretrained(f"tester/{name}", revision=revision or "main")
        report["gap"] = float((embeds(copy) - embeds(trainer.model)).abs().max())
    except PushError as error:
        report["error"] = str(error)
        copy = CLIPModel.from_pretrained(trainer.args.output_dir)
        report["gap_on_disk"] = float((embeds(copy) - embeds(trainer.model)).abs().max())
    report["commits_at_the_end"] = len(api.list_repo_commits(f"tester/{name}", revision=revision))
    return report


def refused(name: str, **options: Any) -> str:
    try:
        trainer_of(name, **options)
    except PushError as error:
        return str(error)
    return "built"


def main() -> None:
    warnings.simplefilter("ignore")
    failures.DELAYS = (0.01, 0.02)
    reports: dict[str, Any] = {strategy: train(strategy, hub_strategy=strategy) for strategy in STRATEGIES}
    reports["private"] = train("private", hub_private_repo=True, hub_strategy="end")
    reports["branch"] = train("branch", hub_revision="trial", report_to="tensorboard")
    cached = Path(snapshot_download("tester/checkpoint", token=SECRET, allow_patterns=["last-checkpoint/*"]))
    resumed = trainer_of("resumed", push_to_hub=False, max_steps=3)
    reports["resumed"] = resumed.train(resume_from_checkpoint=str(cached / "last-checkpoint")).global_step
    # The Hub of the test fails for these names.
    reports["fails-once"] = train("fails-once")
    reports["busy"] = train("busy")
    reports["answer-lost"] = train("answer-lost", hub_strategy="end")
    reports["fails-twice"] = train("fails-twice", hub_strategy="all_checkpoints", save_total_limit=1)
    reports["down"] = train("down", hub_strategy="checkpoint", save_total_limit=1)
    reports["quota"] = train("quota", hub_strategy="end")
    reports["left-out"] = train("left-out", hub_always_push=False, hub_strategy="all_checkpoints")
    repositories.LONGEST_SILENCE = 0.3
    reports["silent"] = train("silent", hub_strategy="end")
    reports["create-fails-once"] = refused("create-fails-once")
    reports["create-fails"] = refused("create-fails")
    reports["wrong-token"] = refused("wrong-token", hub_token="hf_a_wrong_token_of_ours")
    reports["echo"] = refused("echo")
    reports["of-others"] = refused("x", hub_model_id="somebody/else")
    reports["read"] = refused("y", hub_model_id="somebody/new")
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
