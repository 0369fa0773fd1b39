"""Which parameters are temperature or bias, where they start, and how far they go."""

import math

import pytest
import torch
from torch import nn
from transformers import CLIPModel, PreTrainedModel

from hf_contrastive.temperature import ClampLogitScale, is_scale_or_bias, set_logit_scale


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
