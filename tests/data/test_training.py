"""From a dataset through the collator to steps of the trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from datasets import Dataset, Features, Image, List, Value
from PIL import ImageOps
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, Wav2Vec2FeatureExtractor, set_seed
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from hf_contrastive import ContrastiveBatch, ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.data import ContrastiveCollator, ExampleDataset, Modality
from hf_contrastive.losses import InfoNCE, NTXent
from hf_contrastive.testing import run_distributed
from tests.conftest import picture


IMAGES = CLIPImageProcessorPil(size={"shortest_edge": 4}, crop_size={"height": 4, "width": 4})
SOUNDS = Wav2Vec2FeatureExtractor(sampling_rate=100)


class Towers(PreTrainedModel):
    """One linear map for each modality that it is given inputs of."""

    config_class = PretrainedConfig

    def __init__(self) -> None:
        super().__init__(PretrainedConfig())
        self.image, self.text, self.audio = nn.Linear(48, 4), nn.EmbeddingBag(99, 4), nn.Linear(8, 4)
        self.product, self.logit_scale = nn.Linear(2, 4), nn.Parameter(torch.tensor(2.0))

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        towers = {
            "pixel_values": ("image_embeds", lambda x: self.image(x.flatten(1))),
            "view_1_pixel_values": ("view_1_embeds", lambda x: self.image(x.flatten(1))),
            "view_2_pixel_values": ("view_2_embeds", lambda x: self.image(x.flatten(1))),
            "input_ids": ("text_embeds", self.text),
            "input_values": ("audio_embeds", self.audio),
            "product_features": ("product_embeds", self.product),
        }
        return {towers[name][0]: towers[name][1](x) for name, x in inputs.items()}


def tokenize(texts: list[str], **_: Any) -> dict[str, Tensor]:
    """The first four letters, as numbers."""
    return {"input_ids": torch.tensor([[ord(letter) % 99 for letter in f"{text:4}"[:4]] for text in texts])}


def rows(number: int = 16, bad: tuple[int, ...] = ()) -> Dataset:
    letters = [chr(ord("a") + row) for row in range(number)]
    columns = {
        "photo": [{"bytes": b"none" if row in bad else picture("red", row), "path": None} for row in range(number)],
        "words": [[f"{letter}{k}{letter}" for k in range(4)] for letter in letters],
        "wrong": [[f"{letter}xx", f"{letter}yy"] for letter in letters],
        "sound": [
            None if row % 3 == 1 else {"array": [0.5, row, -1, 2, 1, 0, 3, 1], "sampling_rate": 100}
            for row in range(number)
        ],
        "vector": [[1.0, row] for row in range(number)],
    }
    sound = {"array": List(Value("float32")), "sampling_rate": Value("int64")}
    text = List(Value("string"))
    kinds = {"photo": Image(), "words": text, "wrong": text, "sound": sound, "vector": List(Value("float32"))}
    return Dataset.from_dict(columns, features=Features(kinds))


def make_trainer(dataset: ExampleDataset, collator: Any, folder: Path, **options: Any) -> ContrastiveTrainer:
    set_seed(0)
    loss = options.pop("loss_object", None)
    defaults = {"per_device_train_batch_size": 8, "max_steps": 2, "logging_steps": 1, "save_strategy": "no"}
    defaults |= {"loss": "clip", "report_to": "none", "use_cpu": True, "disable_tqdm": True, "learning_rate": 0.1}
    args = ContrastiveTrainingArguments(str(folder), **(defaults | options))
    return ContrastiveTrainer(Towers(), args, loss=loss, train_dataset=dataset, data_collator=collator)


def collator_of(*modalities: str, **options: Any) -> ContrastiveCollator:
    every = {
        "image": Modality(processor=IMAGES),
        "text": Modality(processor=tokenize, kind="text"),
        "audio": Modality(processor=SOUNDS),
        "product": Modality(),
    }
    return ContrastiveCollator(processor={m: every[m] for m in modalities}, **options)


def test_four_modalities_train_together_where_some_rows_lack_one(tmp_path: Path):
    columns = {"image": "photo", "text": "words", "audio": "sound", "product": "vector"}
    seen: list[ContrastiveBatch] = []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        seen.append(batch)
        return InfoNCE()(batch)

    trainer = make_trainer(ExampleDataset(rows(), columns), collator_of(*columns), tmp_path, loss_object=loss)
    before = {name: x.clone() for name, x in trainer.model.named_parameters()}
    trainer.train()
    assert seen[0].modalities == ["audio", "image", "product", "text"]
    # Every third row of sixteen, in two batches.
    assert sum(int((~batch.present["audio"]).sum()) for batch in seen) == 5
    assert all(not torch.equal(x, before[name]) for name, x in trainer.model.named_parameters())


def test_two_views_of_an_image_train_one_tower(tmp_path: Path):
    views = {
        f"view_{number}": Modality(
            processor=IMAGES,
            column="image",
            transform=transform,
            rename={"pixel_values": f"view_{number}_pixel_values"},
        )
        for number, transform in ((1, None), (2, ImageOps.invert))
    }
    dataset = ExampleDataset(rows(), {"image": "photo"})
    trainer = make_trainer(dataset, ContrastiveCollator(processor=views), tmp_path, loss_object=NTXent())
    before = trainer.model.image.weight.clone()
    trainer.train()
    assert not torch.equal(trainer.model.image.weight, before)
    assert {"loss/nt_xent", "geometry/alignment_view_1_view_2"} <= set(trainer.state.log_history[0])


def test_each_epoch_draws_anew_in_workers_too(tmp_path: Path):
    dataset = ExampleDataset(rows(), {"text": "words", "product": "vector"}, pick="random")
    seen: list[Tensor] = []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        seen.append(batch.world["text"].detach())
        return InfoNCE()(batch)

    options = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "learning_rate": 0.0}
    options |= {"max_steps": -1, "num_train_epochs": 3, "loss_object": loss}
    make_trainer(dataset, collator_of("text", "product"), tmp_path, **options).train()
    epochs = [torch.cat(seen[i : i + 2]) for i in (0, 2, 4)]
    # Sixteen texts of four letters each are the same in two epochs with a chance of 4^-16, in whatever order.
    sums = [epoch.double().sum(dim=0) for epoch in epochs]
    assert all(not torch.allclose(a, b, atol=1e-6) for a, b in zip(sums, sums[1:] + sums[:1], strict=True))


def test_skipped_rows_are_logged_at_each_step_and_at_the_end(tmp_path: Path):
    columns = {"image": "photo", "text": "words"}
    dataset = ExampleDataset(rows(bad=(3, 7, 11)), columns, on_bad_row="skip")
    trainer = make_trainer(dataset, collator_of(*columns), tmp_path, dataloader_num_workers=2)
    trainer.train()
    logs = trainer.state.log_history
    assert logs[-1]["data/skipped_rows"] == 3
    assert "train_loss" in logs[-1]
    assert 0 <= logs[0]["data/skipped_rows"] <= logs[1]["data/skipped_rows"] <= 3


def test_replaced_rows_of_an_evaluation_are_reported(tmp_path: Path):
    columns = {"image": "photo", "text": "words"}
    dataset = ExampleDataset(rows(bad=(3,)), columns, on_bad_row="skip")
    trainer = make_trainer(dataset, collator_of(*columns), tmp_path)
    assert trainer.evaluate(dataset)["eval_data/skipped_rows"] == 1


HARD = {"hard_negatives": {"text": "wrong"}, "num_hard_negatives": 2}


def hard_trainer(folder: Path, batch_size: int, **options: Any) -> ContrastiveTrainer:
    dataset = ExampleDataset(rows(), {"product": "vector", "text": "words"}, pick="random", **HARD)
    collator = collator_of("product", "text", hard_negatives={"text": "hard_negatives_text"}, num_hard_negatives=2)
    options = {"optim": "sgd", "max_steps": 3, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"} | options
    trainer = make_trainer(dataset, collator, folder, per_device_train_batch_size=batch_size, **options)
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(dataset)
    return trainer


def test_hard_negatives_are_trained_and_left_out_of_evaluation(tmp_path: Path):
    trainer = hard_trainer(tmp_path, 8)
    before = trainer.model.text.weight.clone()
    trainer.train()
    changed = (trainer.model.text.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert {ord("x") % 99, ord("y") % 99} <= set(changed), "letters of hard negatives alone"
    trainer.evaluate(trainer.train_dataset)
    assert trainer.modalities == ["product", "text"]


def test_a_loss_without_a_use_for_hard_negatives_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^The data has hard negatives of \['text'\], but AlignUniform"):
        hard_trainer(tmp_path, 8, loss="align_uniform").train()


def check_parameters(folder: Path) -> None:
    trainer = hard_trainer(folder, 4)
    trainer.train()
    if dist.get_rank() == 0:
        torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), folder / "two.pt")


def check_that_one_process_may_skip_alone(folder: Path) -> None:
    columns, sizes = {"image": "photo", "text": "words"}, []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        sizes.append(len(batch.world["image"]))
        return InfoNCE()(batch)

    # The first process reads rows 0 to 3, the second none of the bad ones.
    dataset = ExampleDataset(rows(bad=(1, 2)), columns, on_bad_row="skip")
    trainer = make_trainer(dataset, collator_of(*columns), folder, per_device_train_batch_size=4, loss_object=loss)
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(dataset)
    trainer.train()
    assert sizes == [8, 8]
    assert dataset.skipped_rows == (0 if dist.get_rank() else 2)
    assert trainer.state.log_history[-1]["data/skipped_rows"] == 2


def check_two_processes(folder: Path) -> None:
    check_parameters(folder)
    check_that_one_process_may_skip_alone(folder)


@pytest.mark.distributed
def test_two_processes_reach_the_parameters_of_one_and_skip_in_step(tmp_path: Path):
    run_distributed(check_two_processes, tmp_path)
    trainer = hard_trainer(tmp_path, 8)
    before = {name: x.clone() for name, x in trainer.model.state_dict().items()}
    trainer.train()
    for name, x in torch.load(tmp_path / "two.pt").items():
        torch.testing.assert_close(x, trainer.model.state_dict()[name], rtol=0, atol=1e-5)
        # The other towers have no inputs here.
        assert torch.equal(x, before[name]) == (name.split(".")[0] in ("image", "audio"))
