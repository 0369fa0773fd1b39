"""What the trainer itself does for pushes; tests/hub has those with a Hub."""

from pathlib import Path

import pytest
from datasets import Dataset
from transformers import CLIPModel

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.training.checkpoints import Part


TOKEN = "hf_the_token_nobody_sees"


@pytest.fixture
def trainer(clip: CLIPModel, dataset: Dataset, tmp_path: Path) -> ContrastiveTrainer:
    args = ContrastiveTrainingArguments(
        str(tmp_path / "run"),
        use_cpu=True,
        loss="clip",
        max_steps=1,
        save_steps=1,
        per_device_train_batch_size=8,
        disable_tqdm=True,
        report_to="none",
        hub_token=TOKEN,
    )
    return ContrastiveTrainer(clip, args, train_dataset=dataset)


def test_no_file_that_is_saved_holds_the_token_and_the_arguments_do(trainer: ContrastiveTrainer):
    trainer.train()
    trainer.save_model()
    files = [path for path in Path(trainer.args.output_dir).rglob("*") if path.is_file()]
    assert sum(path.name == "training_args.bin" for path in files) == 2
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    assert trainer.args.hub_token == TOKEN


def test_a_push_whose_failure_nobody_would_see_is_refused(trainer: ContrastiveTrainer):
    with pytest.raises(ValueError, match="`blocking` is False, but"):
        trainer.push_to_hub(blocking=False)


def test_further_state_of_a_checkpoint_is_no_part_of_the_model(trainer: ContrastiveTrainer):
    trainer.checkpoints.add(Part(file="mine.txt", save=Path.touch, load=lambda _: None, missing="nothing is"))
    assert {"mine*.txt", "loss_log*.safetensors"} <= set(trainer._state_files())
