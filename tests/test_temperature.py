"""Which parameters are temperature or bias, where they start, and how far they go."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPModel, HfArgumentParser, PreTrainedModel, SiglipModel, set_seed

from hf_contrastive import ContrastiveBatch, ContrastiveTrainer, ContrastiveTrainingArguments, Schedule, parse_recipe
from hf_contrastive.losses import CLIP, ContrastiveLoss, SigLIP, get_loss, uses_bias
from hf_contrastive.temperature import ClampLogitScale, is_scale_or_bias, set_logit_bias, set_logit_scale
from tests.conftest import tiny_clip, tiny_siglip
from tests.training.test_trainer import make_trainer

from .recipe.test_arguments import Training


@pytest.mark.parametrize("name", ["logit_scale", "logit_bias", "module.logit_scale", "model.clip.logit_bias"])
def test_scale_and_bias_are_known_by_their_last_name(name: str):
    assert is_scale_or_bias(name)


@pytest.mark.parametrize("name", ["logit_scale.weight", "my_logit_scale", "logit_scales", "text.layers.0.bias", ""])
def test_other_parameters_are_neither(name: str):
    assert not is_scale_or_bias(name)


def test_the_scale_starts_where_it_is_told(model: PreTrainedModel):
    set_logit_scale(model, scale=25.0, learn=True)
    assert model.logit_scale.exp().item() == pytest.approx(25.0, rel=1e-6)
    assert model.logit_scale.requires_grad


def test_the_scale_stays_where_it_is_without_a_start(clip: CLIPModel):
    before = clip.logit_scale.item()
    set_logit_scale(clip, scale=None, learn=False)
    assert clip.logit_scale.item() == before
    assert not clip.logit_scale.requires_grad


@pytest.mark.parametrize("moment", ["on_train_begin", "on_optimizer_step"])
def test_a_scale_beyond_the_bound_comes_back_to_it(model: PreTrainedModel, moment: str):
    model.logit_scale.data.fill_(9.0)
    getattr(ClampLogitScale(100.0), moment)(None, None, None, model=model)
    assert model.logit_scale.exp().item() == pytest.approx(100.0, rel=1e-6)


def test_the_bound_is_for_the_model_that_is_trained_now():
    callback, first, second = ClampLogitScale(20.0), tiny_clip(), tiny_clip()
    callback.on_train_begin(model=first)
    second.logit_scale.data.fill_(5.0)
    callback.on_train_begin(model=second)
    assert second.logit_scale.exp().item() == pytest.approx(20.0, rel=1e-6)


def test_a_scale_below_the_bound_is_left_alone(clip: CLIPModel):
    before = {name: parameter.clone() for name, parameter in clip.named_parameters()}
    ClampLogitScale(100.0).on_optimizer_step(None, None, None, model=clip)
    assert all(torch.equal(parameter, before[name]) for name, parameter in clip.named_parameters())


def test_only_the_scale_is_clamped():
    model = nn.Module()
    model.logit_scale, model.logit_bias = (nn.Parameter(torch.tensor(8.0)) for _ in range(2))
    ClampLogitScale(10.0).on_optimizer_step(None, None, None, model=nn.ModuleDict({"wrapped": model}))
    assert model.logit_scale.item() == pytest.approx(math.log(10), rel=1e-6)
    assert model.logit_bias.item() == 8.0


def test_a_fixed_scale_has_no_state_in_the_optimizer(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(clip, dataset, tmp_path, learn_logit_scale=False)
    trainer.train()
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in clip.parameters()} - {id(clip.logit_scale)}
    assert {id(p) for p in trainer.optimizer.state} <= optimized


# ---- Schedule ----

RISE = {"start": 10.0, "end": 50.0}


def scales_of(trainer: ContrastiveTrainer) -> list[float]:
    return [log["logit_scale"] for log in trainer.state.log_history if "logit_scale" in log]


@pytest.mark.parametrize("schedule", [RISE, Schedule(**RISE), json.dumps(RISE)], ids=["dict", "object", "json"])
def test_a_scheduled_scale_rises_step_by_step_and_is_logged(
    clip: CLIPModel, dataset: Dataset, tmp_path: Path, schedule: Any
):
    trainer = make_trainer(clip, dataset, tmp_path, max_steps=4, logit_scale_schedule=schedule)
    trainer.train()
    # The last step before the end; after it the model has the end.
    assert scales_of(trainer) == pytest.approx([10.0, 20.0, 30.0, 40.0], rel=1e-6)
    assert clip.logit_scale.exp().item() == pytest.approx(50.0, rel=1e-6)
    assert id(clip.logit_scale) not in {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}


def test_the_scale_stays_within_an_update_of_several_batches(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    seen = []

    def loss(batch: ContrastiveBatch) -> dict[str, Tensor]:
        seen.append(batch.logit_scale.item())
        return CLIP()(batch)

    options = {"gradient_accumulation_steps": 2, "logit_scale_schedule": RISE, "loss_object": loss}
    make_trainer(clip, dataset, tmp_path, **options).train()
    assert seen == pytest.approx([10.0, 10.0, 30.0, 30.0], rel=1e-6)


def test_a_scheduled_scale_goes_on_where_it_was_interrupted(clip: CLIPModel, dataset: Dataset, tmp_path: Path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "logit_scale_schedule": RISE}
    make_trainer(clip, dataset, tmp_path, **options).train()
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")["logit_scale"]
    assert saved.exp().item() == pytest.approx(30.0, rel=1e-6)
    resumed = make_trainer(tiny_clip(), dataset, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert scales_of(resumed) == pytest.approx([10.0, 20.0, 30.0, 40.0], rel=1e-6)


def test_a_schedule_is_read_from_yaml_and_from_the_command_line(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text(f"output_dir: {tmp_path}\nuse_cpu: true\nlogit_scale_schedule: {{start: 10, end: 50}}\n")
    (args,) = parse_recipe(Training, argv=[str(file)])
    assert args.logit_scale_schedule == {"start": 10, "end": 50}
    assert not args.learn_logit_scale
    words = ["--output_dir", str(tmp_path), "--use_cpu", "True", "--logit_scale_schedule", '{"start": 10, "end": 50}']
    (args,) = HfArgumentParser(Training).parse_args_into_dataclasses([*words, "--logit_bias", "-3"])
    assert (args.logit_scale_schedule, args.logit_bias) == ({"start": 10, "end": 50}, -3.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logit_scale_schedule": {"start": 10}}, "`logit_scale_schedule` as a schedule has `start`, `end` and"),
        ({"logit_scale_schedule": "cosine"}, "logit_scale_schedule must be a JSON object such as"),
        (
            {"logit_scale_schedule": {"start": 0, "end": 50}},
            "start of logit_scale_schedule must be positive and at most",
        ),
        ({"logit_scale_schedule": {"start": 1, "end": 101}}, r"at most max_logit_scale 100.0, but got 101"),
        ({"logit_scale_schedule": RISE, "logit_scale": 5.0}, "logit_scale must be left alone, but got 5.0"),
        ({"logit_bias": "zero"}, "logit_bias must be a finite number or 'auto', but got 'zero'"),
        ({"logit_bias": math.inf}, "logit_bias must be a finite number or 'auto', but got inf"),
    ],
)
def test_an_impossible_schedule_or_bias_is_refused(tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ContrastiveTrainingArguments(str(tmp_path), use_cpu=True, **options)


# ---- Bias ----


@pytest.fixture
def siglip() -> SiglipModel:
    set_seed(0)
    return tiny_siglip()


def test_an_untrained_bias_starts_where_the_global_batch_wants_it(
    siglip: SiglipModel, dataset: Dataset, tmp_path: Path
):
    make_trainer(siglip, dataset, tmp_path, loss="siglip", logit_bias="auto", logit_scale=10.0)
    assert siglip.logit_bias.item() == pytest.approx(-math.log(8), rel=1e-6)
    assert siglip.logit_scale.exp().item() == pytest.approx(10.0, rel=1e-6)


def test_a_trained_bias_is_left_alone(siglip: SiglipModel, dataset: Dataset, tmp_path: Path):
    siglip.logit_bias.data.fill_(-16.5)
    make_trainer(siglip, dataset, tmp_path, loss="siglip", logit_bias="auto")
    assert siglip.logit_bias.item() == -16.5


def test_a_bias_that_the_loss_does_not_use_is_left_alone(siglip: SiglipModel, dataset: Dataset, tmp_path: Path):
    make_trainer(siglip, dataset, tmp_path, loss="clip", logit_bias="auto")
    assert siglip.logit_bias.item() == 0.0


def test_nothing_is_set_unless_asked(siglip: SiglipModel, dataset: Dataset, tmp_path: Path):
    make_trainer(siglip, dataset, tmp_path, loss="siglip")
    assert siglip.logit_bias.item() == 0.0


def test_a_bias_that_is_given_is_set(siglip: SiglipModel):
    siglip.logit_bias.data.fill_(-16.5)
    set_logit_bias(siglip, -3.0, batch_size=8, used=False)
    assert siglip.logit_bias.item() == -3.0


def test_a_bias_for_a_model_without_one_is_refused(clip: CLIPModel):
    set_logit_bias(clip, "auto", batch_size=8, used=True)
    with pytest.raises(ValueError, match=r"`logit_bias` is -3.0, but CLIPModel has no `logit_bias`"):
        set_logit_bias(clip, -3.0, batch_size=8, used=True)


@pytest.mark.parametrize(
    ("loss", "uses"),
    [
        (SigLIP(), True),
        (CLIP(), False),
        (get_loss("weighted_sum", parts=[{"name": "clip"}, {"name": "siglip"}]), True),
        (get_loss("weighted_sum", parts=[{"name": "clip"}]), False),
        (get_loss("matryoshka", loss={"name": "siglip"}), True),
        (get_loss("matryoshka"), False),
    ],
    ids=repr,
)
def test_a_loss_says_whether_it_uses_the_bias(loss: ContrastiveLoss, uses: bool):
    assert uses_bias(loss) is uses


# ---- One temperature per pair ----


class ThreeTowers(CLIPModel):
    """A CLIP with a third modality, the text again through a layer of its own, and a temperature per pair."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.logit_scale = nn.Parameter(torch.tensor([3.0, 7.0, 14.0]).log())
        self.sound = nn.Linear(12, 12)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> dict[str, Tensor]:
        # The class's own forward multiplies its logits by a single scale.
        text = self.get_text_features(input_ids, attention_mask).pooler_output
        image = self.get_image_features(pixel_values).pooler_output
        return {"image_embeds": image, "text_embeds": text, "audio_embeds": self.sound(text)}

    def _init_weights(self, module: nn.Module) -> None:
        if module is not self:
            super()._init_weights(module)


@pytest.fixture
def three() -> ThreeTowers:
    set_seed(0)
    return ThreeTowers(tiny_clip().config)


def test_each_pair_learns_its_temperature_below_the_bound(three: ThreeTowers, dataset: Dataset, tmp_path: Path):
    options = {
        "max_steps": 3,
        "learning_rate": 0.05,
        "max_logit_scale": 13.0,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    trainer = make_trainer(three, dataset, tmp_path, **options)
    before = three.logit_scale.detach().exp()
    trainer.train()
    log = next(log for log in trainer.state.log_history if "logit_scale" in log)
    names = ("audio_image", "audio_text", "image_text")
    # The last one starts above the bound.
    assert [log[f"logit_scale/{name}"] for name in names] == pytest.approx([3.0, 7.0, 13.0], rel=1e-6)
    after = three.logit_scale.detach().exp()
    assert (after[:2] != before[:2]).all()
    assert after.max() <= 13.0 * (1 + 1e-6)
    saved = load_file(tmp_path / "checkpoint-3" / "model.safetensors")["logit_scale"]
    assert torch.equal(saved, three.logit_scale.detach())
    metrics = trainer.evaluate()
    assert [metrics[f"eval_logit_scale/{name}"] for name in names] == pytest.approx(after.tolist(), rel=1e-6)


def test_a_temperature_too_many_is_refused(three: ThreeTowers, dataset: Dataset, tmp_path: Path):
    trainer = make_trainer(three, dataset, tmp_path, modalities=["image", "text"])
    with pytest.raises(ValueError, match=r"one for each of the 1 pairs .* \['image', 'text'\], .* has shape \[3\]"):
        trainer.train()
