"""What single architectures want otherwise: the table names what there is, and the rest of the package follows it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, PreTrainedConfig, set_seed
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_contrastive.models import MultiEncoder, MultiEncoderConfig
from hf_contrastive.models.configuration import POOLINGS
from hf_contrastive.models.peculiarities import _BY_MODEL_TYPE, peculiarities_of
from tests.models.tower_table import TABLE, inputs_for


def test_the_table_names_architectures_settings_and_poolings_that_there_are():
    for model_type, own in _BY_MODEL_TYPE.items():
        config = CONFIG_MAPPING[model_type]()
        assert all(hasattr(config, name) for name in own.settings)
        assert own.pooling is None or own.pooling in POOLINGS


def test_most_have_none():
    own = peculiarities_of(TABLE["bert"].config)
    assert (own.settings, own.pooling, own.example, own.extra_inputs, own.is_padded) == ({}, None, None, None, False)


def dropping(name: str) -> PreTrainedConfig:
    """A configuration with which all layers would be left out in training."""
    config = copy.deepcopy(TABLE[name].config)
    setattr(config, "encoder_layerdrop" if name == "whisper" else "layerdrop", 1.0)
    return config


def source_of(kind: str, config: PreTrainedConfig, folder: Path) -> Any:
    if kind == "config":
        return config
    model = AutoModel.from_config(config)
    model.save_pretrained(folder)
    return model if kind == "model" else folder


@pytest.mark.parametrize("kind", ["config", "model", "folder"])
@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "whisper"])
def test_no_layer_is_left_out_at_random(name: str, kind: str, tmp_path: Path):
    set_seed(0)
    towers = {"probe": source_of(kind, dropping(name), tmp_path / "tower"), "other": 6}
    model = MultiEncoder.from_towers(towers, width=12)
    model.save_pretrained(tmp_path / "joined")
    inputs = {model.input_name("probe", key): x for key, x in inputs_for(model.probe_model).items()}
    for made in (model, AutoModel.from_pretrained(tmp_path / "joined")):
        made.train()(**inputs)["probe_embeds"].sum().backward()
        assert [key for key, p in made.probe_model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_nor_is_one_of_a_tower_that_is_given_beside_a_configuration():
    set_seed(0)
    tower = AutoModel.from_config(dropping("wav2vec2"))
    config = MultiEncoderConfig(modalities={"probe": {"tower": tower.config}, "other": {"features": 6}}, width=12)
    model = MultiEncoder(config, {"probe": tower})
    assert model.probe_model is tower
    assert tower.config.layerdrop == 0


def test_examples_are_made_whatever_the_default_device_is():
    from hf_contrastive.models.examples import example_inputs

    for name in ("bert", "vit", "whisper", "clap_audio"):
        encoder = MultiEncoder.from_towers({"probe": copy.deepcopy(TABLE[name].config), "other": 6}).probe_model
        with torch.device("meta"):
            inputs = example_inputs(encoder)
        assert {x.device.type for x in inputs.values()} == {"cpu"}
