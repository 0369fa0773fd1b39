"""Groups of parameters: who is in which, how fast each learns, how a run goes on with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Adafactor, CLIPModel, PreTrainedModel
from transformers.utils import logging

from hf_contrastive import ContrastiveTrainer
from hf_contrastive.training.optimizer import describe_groups, set_learning_rates
from tests.training.test_trainer import make_trainer
from tests.training.three_towers import ThreeTowers, ThreeTowersConfig, three_columns


ALL = {"tower_learning_rates": {"image": 1e-3}, "layer_decay": 0.5, "logit_scale_learning_rate": 0.125}


def rates_by_name(trainer: ContrastiveTrainer) -> dict[str, float]:
    trainer.create_optimizer()
    rates = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    return {name: rates[id(p)] for name, p in trainer.model.named_parameters() if id(p) in rates}


@pytest.mark.parametrize("options", [{}, {"layer_decay": 0.5}, {"tower_learning_rates": {"text": 1e-3}}, ALL], ids=str)
def test_every_trained_parameter_is_in_one_group_with_the_decay_of_its_kind(
    model: PreTrainedModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any]
):
    trainer = make_trainer(model, dataset, tmp_path, weight_decay=0.1, unfreeze_last={"text": 1}, **options)
    trainer.create_optimizer()
    groups = trainer.optimizer.param_groups
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert all(group["params"] for group in groups)
    decayed = set(trainer.get_decay_parameter_names(model))
    weights = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert weights[id(p)] == (0.1 if name in decayed else 0.0), name


def test_groups_have_names_of_their_own(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, weight_decay=0.1, **ALL)
    trainer.create_optimizer()
    names = [group["name"] for group in trainer.optimizer.param_groups]
    assert len(names) == len(set(names))
    assert {
        "image layer.1, decay",
        "image layer.1, no decay",
        "text embeddings, decay",
        "temperature, no decay",
    } <= set(names)


def test_a_tower_has_a_learning_rate_of_its_own(model: PreTrainedModel, dataset: Dataset, tmp_path: Path):
    rates = rates_by_name(make_trainer(model, dataset, tmp_path, tower_learning_rates={"image": 1e-3}))
    for name, rate in rates.items():
        assert rate == (1e-3 if name.startswith("vis") else 1e-2), name


def test_a_projection_has_a_learning_rate_of_its_own(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    given = {"image": 1e-3, "text_projection": 0.5}
    rates = rates_by_name(make_trainer(clip, dataset, tmp_path, tower_learning_rates=given))
    assert rates["text_projection.weight"] == 0.5
    assert rates["visual_projection.weight"] == 1e-3
    assert rates["text_model.final_layer_norm.weight"] == 1e-2


def test_learning_rates_decay_from_the_top_by_block(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    rates = rates_by_name(make_trainer(clip, dataset, tmp_path, **ALL))
    expected = {
        "visual_projection.weight": 1e-3,
        "vision_model.post_layernorm.weight": 1e-3,
        "vision_model.encoder.layers.1.mlp.fc1.bias": 1e-3 * 0.5,
        "vision_model.encoder.layers.0.mlp.fc1.weight": 1e-3 * 0.25,
        "vision_model.pre_layrnorm.weight": 1e-3 * 0.125,
        "vision_model.embeddings.class_embedding": 1e-3 * 0.125,
        "text_model.final_layer_norm.bias": 1e-2,
        "text_model.encoder.layers.0.self_attn.q_proj.weight": 1e-2 * 0.25,
        "text_model.embeddings.token_embedding.weight": 1e-2 * 0.125,
        "logit_scale": 0.125,
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_towers_of_unequal_depth_decay_from_their_own_top(tmp_path: Path):
    rates = rates_by_name(make_trainer(ThreeTowers(ThreeTowersConfig()), three_columns(), tmp_path, layer_decay=0.1))
    assert rates["text_encoder.weight"] == pytest.approx(1e-3)
    assert rates["vision_model.token"] == pytest.approx(1e-6)
    assert rates["logit_scale"] == 1e-2


def test_schedulers_scale_every_rate_alike(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=4, lr_scheduler_type="linear", **ALL)
    trainer.create_optimizer_and_scheduler(4)
    before = [group["lr"] for group in trainer.optimizer.param_groups]
    trainer.optimizer.step()
    trainer.lr_scheduler.step()
    after = [group["lr"] for group in trainer.optimizer.param_groups]
    assert after == pytest.approx([0.75 * rate for rate in before], rel=1e-12)


def test_sgd_moves_a_parameter_by_its_own_rate(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    plain = {
        "optim": "sgd",
        "max_steps": 1,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "weight_decay": 0.0,
    }
    weights, moves = {name: x.clone() for name, x in clip.state_dict().items()}, []
    for options in ({}, {"tower_learning_rates": {"image": 2e-2}, "layer_decay": 0.5}):
        clip.load_state_dict(weights)
        trainer = make_trainer(clip, dataset, tmp_path, data_seed=0, seed=0, **plain, **options)
        trainer.train()
        moves.append({name: x - weights[name] for name, x in clip.state_dict().items()})
    for name, factor in {
        "visual_projection.weight": 2.0,
        "vision_model.encoder.layers.0.mlp.fc1.weight": 0.5,
        "text_model.encoder.layers.1.mlp.fc1.weight": 0.5,
        "text_projection.weight": 1.0,
    }.items():
        assert moves[0][name].abs().max() > 1e-6
        # Differences of weights of about 1 in single precision.
        torch.testing.assert_close(moves[1][name], factor * moves[0][name], rtol=1e-3, atol=2e-7)


def test_a_resumed_run_keeps_groups_rates_and_weights(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1, **ALL}
    weights = {name: x.clone() for name, x in clip.state_dict().items()}
    whole = make_trainer(clip, dataset, tmp_path, **options)
    whole.train()
    end = {name: x.clone() for name, x in clip.state_dict().items()}
    clip.load_state_dict(weights)
    resumed = make_trainer(clip, dataset, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    kept = [[(g["name"], g["lr"], g["initial_lr"]) for g in t.optimizer.param_groups] for t in (whole, resumed)]
    assert kept[0] == kept[1]
    for name, x in clip.state_dict().items():
        assert torch.equal(x, end[name]), name


def test_groups_are_told_as_a_table(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = make_trainer(clip, dataset, tmp_path, weight_decay=0.1, **ALL)
    with caplog.at_level(logging.INFO, logger="hf_contrastive.training.tower_trainer"):
        trainer.create_optimizer()
        trainer.create_optimizer()
    (told,) = [record.message for record in caplog.records if record.name == "hf_contrastive.training.tower_trainer"]
    assert told == describe_groups(trainer.optimizer)
    lines = told.splitlines()
    assert lines[0].split() == ["group", "learning", "rate", "weight", "decay", "parameters"]
    assert len(lines) == 1 + len(trainer.optimizer.param_groups)
    assert len({len(line) for line in lines}) == 1
    (line,) = [line for line in lines if line.startswith("image projection, decay")]
    assert line.split()[3:] == ["0.001", "0.1", "192"]


# ---- Errors ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tower_learning_rates": {"vision": 1e-3}},
            r"names \['vision'\], but the model has \['image', 'image_projection', 'text', 'text_projection'\]",
        ),
        (
            {"tower_learning_rates": {"image": 1e-3}, "freeze_towers": ["image"], "freeze_projections": ["image"]},
            r"has a rate for \['image'\], where nothing is trained",
        ),
    ],
)
def test_a_rate_without_effect_is_refused(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        make_trainer(clip, dataset, tmp_path, **options).create_optimizer()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1, but got 0.0"),
        ({"layer_decay": 1.5}, "layer_decay must be above 0 and at most 1, but got 1.5"),
        ({"tower_learning_rates": {"image": -1.0}}, "tower_learning_rates must give learning rates by tower"),
        ({"tower_learning_rates": "fast"}, "tower_learning_rates must give learning rates by tower"),
    ],
)
def test_impossible_rates_are_refused(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        make_trainer(clip, dataset, tmp_path, **options)


def test_rates_beside_an_optimizer_of_the_user_are_refused(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    args = make_trainer(clip, dataset, tmp_path, layer_decay=0.5).args
    own = torch.optim.SGD(clip.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="`layer_decay` are for the optimizer that the trainer makes"):
        ContrastiveTrainer(clip, args, train_dataset=dataset, optimizers=(own, None))


def test_layers_of_an_optimizer_that_sets_its_own_rates_cannot_decay(clip: CLIPModel):
    optimizer = Adafactor(clip.parameters())
    with pytest.raises(ValueError, match="`layer_decay` needs an optimizer with a learning rate"):
        set_learning_rates(optimizer, clip, layer_decay=0.5)
