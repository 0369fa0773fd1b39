"""What the trainer itself does for pushes; tests/hub has those with a Hub."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import CLIPModel

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.hub.failures import Patience
from hf_contrastive.training import pushing
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


class Uploads:
    """Pushes as the Hub would see them: the card and the patterns of what stays behind."""

    def __init__(self) -> None:
        self.cards: list[str] = []
        self.ignored: list[list[str]] = []
        self.patience: list[float] = []

    def __call__(self, folder: Path, repository: Any, message: str, *, ignored: list[str], patience: Patience) -> None:
        self.cards.append((folder / "README.md").read_text() if "README.md" not in ignored else "")
        self.ignored.append(ignored)
        self.patience.append(patience.left)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    uploads = Uploads()
    monkeypatch.setattr(pushing, "upload", uploads)
    return uploads


def test_each_push_has_the_card_of_its_step(trainer: ContrastiveTrainer, uploads: Uploads):
    card = Path(trainer.args.output_dir) / "README.md"
    trainer.train()
    trainer.push_to_hub(license="mit")
    assert "license: mit" in uploads.cards[0]
    # Of a recipe, which tells more, and as long as the model is the same.
    card.write_text(uploads.cards[0].replace("license: mit", "license: gpl"))
    trainer.step_of_card = trainer.state.global_step
    trainer.push_to_hub()
    assert "license: gpl" in uploads.cards[1]
    # The same number of steps, and another model.
    trainer.train()
    trainer.push_to_hub(license="apache-2.0")
    assert trainer.step_of_card is None
    assert uploads.cards[2] == card.read_text() != uploads.cards[1]


def test_what_was_trained_is_pushed_though_its_card_cannot_be_made(
    trainer: ContrastiveTrainer, uploads: Uploads, caplog: pytest.LogCaptureFixture
):
    trainer.push_to_hub(license="of my own invention")
    assert "README.md" in uploads.ignored[0]
    assert (Path(trainer.args.output_dir) / "model.safetensors").is_file()
    assert "The model card could not be written, so the model is pushed without one: ValueError: " in caplog.text
    assert "of my own invention" in caplog.text
    trainer.push_to_hub()
    assert "README.md" not in uploads.ignored[1]


def test_a_card_by_hand_is_pushed_as_it_is(
    trainer: ContrastiveTrainer, uploads: Uploads, caplog: pytest.LogCaptureFixture
):
    (Path(trainer.args.output_dir) / "README.md").write_text("# by hand\n")
    trainer.push_to_hub(license="mit")
    assert uploads.cards == ["# by hand\n"]
    assert "The card is kept as it is, without license" in caplog.text


def test_an_argument_that_no_card_has_is_refused_before_anything_is_done(trainer: ContrastiveTrainer):
    with pytest.raises(TypeError, match="licence"):
        trainer.push_to_hub(licence="mit")
    assert list(Path(trainer.args.output_dir).iterdir()) == []


def test_a_push_is_tried_again_for_a_third_of_the_time_that_processes_wait_for_each_other(
    trainer: ContrastiveTrainer, uploads: Uploads
):
    trainer.push_to_hub()
    assert 590 < uploads.patience[0] <= trainer.args.ddp_timeout / 3 == 600


def test_further_state_of_a_checkpoint_is_no_part_of_the_model(trainer: ContrastiveTrainer):
    trainer.checkpoints.add(Part(file="mine.txt", save=Path.touch, load=lambda _: None, missing="nothing is"))
    assert {"mine*.txt", "loss_log*.safetensors"} <= set(trainer._state_files())
