"""What a card says of a model's encoders."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPModel, PreTrainedModel, RobertaConfig

from hf_contrastive.models import MultiEncoder
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.towers import describe_adapter, describe_inputs, describe_towers, longest_text
from tests.conftest import tiny_clip, tiny_dual_encoder, tiny_siglip
from tests.models.tower_table import TABLE


@pytest.mark.parametrize(
    ("model", "image", "text"),
    [
        (tiny_clip(), "class token", "end-of-text token"),
        (tiny_siglip(), "attention", "last token"),
        (tiny_dual_encoder(), "its own pooler", "its own pooler"),
    ],
    ids=["clip", "siglip", "vision_text"],
)
def test_towers_are_told_with_pooling_and_parameters(model: PreTrainedModel, image: str, text: str):
    towers = {tower.modality: tower for tower in describe_towers(model)}
    assert (towers["image"].pooling, towers["text"].pooling) == (image, text)
    own = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("logit"))
    assert sum(tower.parameters for tower in towers.values()) == own
    assert all(tower.trainable == tower.parameters for tower in towers.values())


def test_frozen_parameters_are_not_counted_as_trained():
    model = tiny_clip()
    model.vision_model.requires_grad_(False)
    towers = {tower.modality: tower for tower in describe_towers(model)}
    assert towers["image"].trainable == sum(p.numel() for p in model.visual_projection.parameters())


def test_parameters_that_deepspeed_has_cut_count_whole():
    model = tiny_clip()
    whole = describe_towers(model)
    for p in model.parameters():
        p.ds_numel, p.data = p.numel(), torch.empty(0)
    assert describe_towers(model) == whole


def test_a_model_without_towers_has_none():
    assert describe_towers(tiny_clip().vision_model.encoder) == ()


def test_inputs_are_told_as_far_as_the_configuration_says():
    assert describe_inputs(tiny_clip().config) == (
        "Texts are cut after 8 tokens.",
        "Images are seen at 8 x 8 pixels.",
    )
    assert describe_inputs(object()) == ()


class _Tokenizer:
    """As far as limits go."""

    def __init__(self, longest: float) -> None:
        self.model_max_length = longest


@pytest.mark.parametrize(
    ("longest", "options", "tokens"),
    [
        (5, None, 5),
        (77, None, 8),
        (1e30, None, 8),
        (77, {"padding": True, "truncation": True, "max_length": 6}, 6),
        (5, {"truncation": True, "max_length": 7}, 7),
        (5, {"padding": True}, None),
    ],
)
def test_texts_are_cut_where_tokenizer_options_or_positions_end(
    longest: float, options: dict[str, Any] | None, tokens: int | None
):
    tokenizer = _Tokenizer(longest)
    told = () if tokens is None else (f"Texts are cut after {tokens} tokens.",)
    for processor in (tokenizer, SimpleNamespace(tokenizer=tokenizer)):
        assert describe_inputs(tiny_clip().config, processor, options)[:-1] == told
    parts = {"text": SimpleNamespace(processor=tokenizer, options=options)}
    assert describe_inputs(tiny_clip().config, parts)[:-1] == told


def test_each_text_of_joined_towers_has_its_own_limit():
    model = joined(shared={"document": "query"})
    parts = {
        name: SimpleNamespace(processor=_Tokenizer(n), options=None) for name, n in (("query", 9), ("document", 77))
    }
    told = describe_inputs(model.config, SimpleNamespace(modalities=parts))
    assert "Values of `query` are cut after 9 tokens." in told
    assert "Values of `document` are cut after 16 tokens." in told


def joined(**kwargs: Any) -> MultiEncoder:
    towers: dict[str, Any] = {"image": TABLE["vit"].config, "query": TABLE["bert"].config, "product": 5}
    return MultiEncoder.from_towers(
        {name: copy.deepcopy(tower) for name, tower in towers.items()}, width=12, **{"head": {"query": "mlp"}} | kwargs
    )


def test_joined_towers_are_told_as_they_were_joined():
    model = joined(shared={"document": "query"}, pooling={"image": "attention"})
    model.image_model.requires_grad_(False)
    towers = {tower.modality: tower for tower in describe_towers(model)}
    assert list(towers) == ["document", "image", "product", "query"]
    assert (towers["image"].encoder, towers["image"].pooling) == ("ViTModel", "learned attention")
    assert towers["image"].projection == "linear to 12"
    assert 0 < towers["image"].trainable < towers["image"].parameters
    assert (towers["query"].pooling, towers["query"].projection) == ("mean of the tokens", "mlp to 12")
    assert (towers["document"].shared_with, towers["document"].projection) == ("query", "mlp to 12")
    assert (towers["product"].encoder, towers["product"].pooling) == ("precomputed features", "none, 5 wide")
    kinds = {name: tower.kind for name, tower in towers.items()}
    assert kinds == {"document": "text", "image": "image", "product": "embedding", "query": "text"}
    assert describe_inputs(model.config) == (
        "Values of `document` are cut after 16 tokens.",
        "Images of `image` are seen at 8 x 8 pixels.",
        "Values of `query` are cut after 16 tokens.",
    )


def test_positions_before_the_first_token_are_no_tokens():
    assert longest_text(RobertaConfig(max_position_embeddings=514)) == 512
    assert longest_text(None) is None


def test_towers_with_weights_of_others_are_not_from_scratch(tmp_path: Any):
    tiny_clip().save_pretrained(tmp_path / "clip")
    facts: dict[str, Any] = {"dataset": "x", "train_rows": 1, "base_model": None, "modalities": (), "model_type": ""}
    assert TrainingFacts(**facts, towers=describe_towers(joined())).from_scratch
    model = MultiEncoder.from_towers({"image": str(tmp_path / "clip"), "text": TABLE["bert"].config}, width=12)
    model.save_pretrained(tmp_path / "joined")
    assert str(tmp_path) not in (tmp_path / "joined" / "config.json").read_text()
    loaded = MultiEncoder.from_pretrained(tmp_path / "joined")
    for found in (model, loaded):
        told = TrainingFacts(**facts, towers=describe_towers(found))
        assert (told.from_scratch, told.hub_base_models) == (False, ())
    loaded.config.modalities["image"].base = "openai/clip-vit-base-patch32"
    told = TrainingFacts(**facts, towers=describe_towers(loaded))
    assert told.hub_base_models == ("openai/clip-vit-base-patch32",)


# A question of peft to transformers under an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_is_told_by_its_kind_and_place(clip: CLIPModel):
    peft = pytest.importorskip("peft", reason="the package peft is not installed")
    assert describe_adapter(clip) is None
    config = peft.LoraConfig(r=2, target_modules=["v_proj", "q_proj"])
    assert describe_adapter(peft.get_peft_model(clip, config)) == "LoRA of rank 2 on q_proj, v_proj"
