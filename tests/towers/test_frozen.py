"""A frozen tower keeps its weights, runs without dropout and keeps no activations."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import CLIPModel, PreTrainedModel, set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.testing import run_distributed
from hf_contrastive.towers.frozen import freeze_towers
from tests.conftest import make_dataset, make_inputs, tiny_clip
from tests.training.test_trainer import make_trainer
from tests.training.three_towers import ThreeTowers, ThreeTowersConfig, three_columns, three_inputs


# The name from transformers 5.23 on, and the one before.
CHECKPOINTING = "activation_checkpointing"
if not hasattr(ContrastiveTrainingArguments, CHECKPOINTING):
    CHECKPOINTING = "gradient_checkpointing"


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def changed(model: PreTrainedModel, before: dict[str, Tensor]) -> set[str]:
    return {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}


def saved_bytes(run: Any) -> int:
    """Bytes that autograd keeps for the backward pass of what `run` does, parameters left out."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, torch.nn.Parameter):
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = run()
    assert output is not None
    return sum(kept.values())


def test_a_frozen_tower_keeps_its_weights_and_the_rest_is_trained(
    model: PreTrainedModel, dataset: Dataset, tmp_path: Path
):
    before = weights_of(model)
    make_trainer(model, dataset, tmp_path, freeze_towers=["image"]).train()
    names = changed(model, before)
    assert not [name for name in names if name.startswith("vision_model")]
    assert any(name.startswith("text_model") for name in names)
    assert "logit_scale" in names
    assert ("visual_projection.weight" in names) == hasattr(model, "visual_projection")


def test_a_projection_can_be_frozen_too(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    before = weights_of(clip)
    make_trainer(clip, dataset, tmp_path, freeze_towers=["image"], freeze_projections=["image"]).train()
    assert not [name for name in changed(clip, before) if name.startswith("vis")]


def test_the_last_layers_and_what_follows_can_stay_trainable(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    before = weights_of(clip)
    make_trainer(clip, dataset, tmp_path, unfreeze_last={"image": 1}).train()
    names = {name for name in changed(clip, before) if name.startswith("vision_model")}
    assert any(name.startswith("vision_model.encoder.layers.1.") for name in names)
    assert "vision_model.post_layernorm.weight" in names
    assert not [name for name in names if "embeddings" in name or "layers.0." in name or "pre_layrnorm" in name]


def test_a_frozen_tower_has_no_dropout_after_train_is_called():
    model = ThreeTowers(ThreeTowersConfig())
    freeze_towers(model, ["image"])
    image = three_inputs()["image"]
    expected = model.eval().vision_model(image)
    model.train()
    assert torch.equal(model.vision_model(image), expected)
    assert model.training


def test_a_partly_frozen_tower_has_dropout_in_its_trained_layers_alone():
    model = ThreeTowers(ThreeTowersConfig())
    freeze_towers(model, unfreeze_last={"image": 1})
    model.train()
    model.vision_model(three_inputs()["image"])
    assert [block.training for block in model.vision_model.blocks] == [False, False, True]
    assert [block[1].training for block in model.vision_model.blocks] == [False, False, True]


def test_statistics_of_a_frozen_batch_norm_stay():
    model = ThreeTowers(ThreeTowersConfig())
    freeze_towers(model, ["audio"])
    before = weights_of(model)
    model.train()(**three_inputs())
    assert changed(model, before) == set()


def test_a_frozen_tower_keeps_no_activations(clip: CLIPModel):
    inputs = make_inputs(32)
    whole = saved_bytes(lambda: clip(**inputs).text_embeds)
    freeze_towers(clip, ["image"])
    text = saved_bytes(lambda: clip.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output)
    half = saved_bytes(lambda: clip(**inputs).text_embeds)
    # Not the towers alone: projections, norms and logits of 32 rows follow.
    assert half < text + 40_000 < whole
    assert saved_bytes(lambda: clip.vision_model(inputs["pixel_values"]).pooler_output) == 0


def test_inputs_that_want_gradients_build_no_graph_in_a_frozen_tower(clip: CLIPModel):
    # `peft` and gradient checkpointing make embeddings require gradients.
    clip.enable_input_require_grads()
    freeze_towers(clip, ["text"])
    inputs = make_inputs(4)
    assert not clip.text_model(inputs["input_ids"]).pooler_output.requires_grad
    assert torch.is_grad_enabled()


def test_gradients_are_on_again_after_an_error_in_a_frozen_tower(clip: CLIPModel):
    freeze_towers(clip, ["image"])
    with pytest.raises(ValueError, match="Input image size"):
        clip.vision_model(torch.zeros(1, 3, 5, 5))
    assert torch.is_grad_enabled()


def test_a_tower_that_is_thawed_is_trained_again(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    freeze_towers(clip, ["image"])
    clip.vision_model.requires_grad_(True)
    before = weights_of(clip)
    make_trainer(clip, dataset, tmp_path).train()
    assert any(name.startswith("vision_model.encoder") for name in changed(clip, before))


def test_a_copy_of_a_frozen_model_is_frozen_by_itself(clip: CLIPModel):
    freeze_towers(clip, ["image"])
    twin = copy.deepcopy(clip)
    twin.vision_model.requires_grad_(True)
    twin.train()(**make_inputs(2))
    assert twin.vision_model.encoder.training
    clip.train()(**make_inputs(2))
    assert not clip.vision_model.encoder.training


@pytest.mark.parametrize(
    "options", [{"freeze_towers": ["image"]}, {"unfreeze_last": {"image": 1, "text": 0}}], ids=str
)
def test_gradient_checkpointing_changes_nothing(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any]
):
    before, ends = weights_of(clip), []
    for checkpointing in (False, True):
        clip.load_state_dict(before)
        set_seed(1)
        make_trainer(
            clip, dataset, tmp_path, optim="sgd", data_seed=1, **{CHECKPOINTING: checkpointing}, **options
        ).train()
        ends.append(weights_of(clip))
    for name, x in ends[0].items():
        torch.testing.assert_close(ends[1][name], x, rtol=0, atol=1e-6)
    assert changed(clip, before)


def test_checkpoints_that_would_lose_gradients_are_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match="Set `use_reentrant` to False"):
        make_trainer(
            clip, dataset, tmp_path, unfreeze_last={"image": 1}, **{f"{CHECKPOINTING}_kwargs": {"use_reentrant": True}}
        )


def test_a_tower_among_three_can_be_locked(tmp_path: Path):
    model = ThreeTowers(ThreeTowersConfig())
    before = weights_of(model)
    make_trainer(model, three_columns(), tmp_path, freeze_towers=["audio"], unfreeze_last={"image": 2}).train()
    names = changed(model, before)
    assert {"audio_projection.weight", "text_encoder.weight", "vision_model.blocks.1.0.weight"} <= names
    assert not names & {"audio_model.0.weight", "vision_model.blocks.0.0.weight", "vision_model.token"}


# ---- Errors ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_towers": ["vision"]}, r"`freeze_towers` names the tower 'vision', .* towers \['image', 'text'\]"),
        ({"unfreeze_last": {"audio": 1}}, r"`unfreeze_last` names the tower 'audio'"),
        (
            {"unfreeze_last": {"text": 3}},
            "`unfreeze_last` must be from 0 to the 2 layers of the text tower, but got 3",
        ),
        ({"unfreeze_last": {"text": -1}}, "unfreeze_last must give whole numbers by tower"),
        ({"unfreeze_last": "2"}, "unfreeze_last must give whole numbers by tower"),
        ({"freeze_projections": ["audio"]}, "`freeze_projections` names the tower 'audio'"),
    ],
)
def test_what_cannot_be_frozen_is_refused(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        make_trainer(clip, dataset, tmp_path, **options)


def test_a_projection_that_is_not_there_cannot_be_frozen(dataset: Dataset, tmp_path: Path):
    with pytest.raises(ValueError, match="'text', whose tower has no projection"):
        freeze_towers(ThreeTowers(ThreeTowersConfig()), projections=["text"])


def test_towers_to_unfreeze_are_json_on_the_command_line(tmp_path: Path):
    args = ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, unfreeze_last='{"image": 2}')
    assert args.unfreeze_last == {"image": 2}


# ---- Processes ----


def train_with_a_locked_tower(folder: str) -> None:
    set_seed(0)
    model = tiny_clip()
    before = weights_of(model)
    args = ContrastiveTrainingArguments(
        folder,
        use_cpu=True,
        disable_tqdm=True,
        loss="clip",
        per_device_train_batch_size=4,
        max_steps=3,
        report_to="none",
        save_strategy="steps",
        save_steps=3,
        freeze_towers=["image"],
        unfreeze_last={"text": 1},
        tower_learning_rates={"text": 1e-3, "image_projection": 1e-2},
        ema_decay=0.5,
        evaluate_ema=True,
        ddp_find_unused_parameters=False,
    )
    trainer = ContrastiveTrainer(model, args, train_dataset=make_dataset(16), eval_dataset=make_dataset(8))
    trainer.train()
    assert trainer.model_wrapped is not trainer.model
    assert not [name for name in changed(model, before) if name.startswith("vision_model")]
    assert "text_model.encoder.layers.1.mlp.fc1.weight" in changed(model, before)
    assert trainer.ema is not None
    for name, value in [*trainer.ema.averages.items(), *model.named_parameters()]:
        gathered = trainer.accelerator.gather(value.detach().float().unsqueeze(0))
        assert torch.equal(gathered[0], gathered[1]), name
    raw = weights_of(model)
    losses = trainer.accelerator.gather(torch.tensor([trainer.evaluate()["eval_loss"]]))
    assert losses[0] == losses[1]
    assert changed(model, raw) == set()
    trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-3")


@pytest.mark.distributed
@pytest.mark.timeout(90)
def test_two_processes_train_around_a_locked_tower_and_average_alike(tmp_path: Path):
    run_distributed(train_with_a_locked_tower, str(tmp_path))
