"""Pretrained dual encoders, and what is refused in their place."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, CLIPModel, CLIPProcessor

from hf_contrastive.models import load_dual_encoder
from tests.conftest import LAYERS, TEXT, tiny_clip


def test_loads_a_saved_model_with_its_processor(saved_clip: Path):
    model, processor = load_dual_encoder(str(saved_clip))
    assert isinstance(model, CLIPModel)
    assert isinstance(processor, CLIPProcessor)


def test_passes_options_on(saved_clip: Path):
    assert load_dual_encoder(str(saved_clip), local_files_only=True)[0].config.projection_dim == 8


def test_a_model_of_one_tower_is_refused(tmp_path: Path):
    BertModel(BertConfig(**LAYERS, **TEXT)).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"`model` must be a dual encoder such as CLIP or SigLIP, with a `logit_scale`, but .* BertModel",
    ):
        load_dual_encoder(str(tmp_path))


@pytest.mark.parametrize("saved", ["tokenizer", "nothing"])
def test_a_model_without_a_whole_processor_is_refused(saved_clip: Path, tmp_path: Path, saved: str):
    tiny_clip().save_pretrained(tmp_path)
    if saved == "tokenizer":
        AutoTokenizer.from_pretrained(saved_clip).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no processor of images and text"):
        load_dual_encoder(str(tmp_path))


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "~/nowhere-at-all"])
def test_a_path_where_there_is_nothing_is_refused(path: str):
    with pytest.raises(FileNotFoundError, match=f"`model` is the path '{path}', where there is nothing"):
        load_dual_encoder(path)


def test_the_home_folder_may_be_a_tilde(saved_clip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(saved_clip.parent))
    assert load_dual_encoder(f"~/{saved_clip.name}")[0].config.projection_dim == 8


def test_weights_are_in_single_precision_unless_another_is_asked_for(saved_clip: Path, tmp_path: Path):
    shutil.copytree(saved_clip, tmp_path, dirs_exist_ok=True)
    tiny_clip().to(torch.bfloat16).save_pretrained(tmp_path)
    name = str(tmp_path)
    assert {p.dtype for p in load_dual_encoder(name)[0].parameters()} == {torch.float32}
    for given in ({"dtype": "auto"}, {"dtype": torch.bfloat16}, {"torch_dtype": torch.bfloat16}):
        assert load_dual_encoder(name, **given)[0].dtype == torch.bfloat16, given
    assert load_dual_encoder(str(saved_clip), dtype=torch.float16)[0].dtype == torch.float16
