"""Towers are found from the architecture."""

import pytest
from torch import nn
from torch.distributed.fsdp import FSDPModule
from transformers import CLIPModel, PreTrainedModel

from hf_contrastive.towers.find import class_of, find_tower, find_towers
from tests.training.three_towers import ThreeTowers, ThreeTowersConfig


def test_every_dual_encoder_has_an_image_and_a_text_tower(model: PreTrainedModel):
    towers = find_towers(model)
    assert set(towers) == {"image", "text"}
    assert towers["image"].encoder is model.vision_model
    assert towers["text"].encoder is model.text_model
    assert towers["image"].projection is getattr(model, "visual_projection", None)
    assert towers["text"].projection is getattr(model, "text_projection", None)


def test_blocks_go_from_the_input_to_the_output(model: PreTrainedModel):
    projection = ["projection"] if hasattr(model, "text_projection") else []
    for tower in find_towers(model).values():
        assert [b.name for b in tower.blocks] == ["embeddings", "layer.0", "layer.1", "head", *projection]
        assert [b.name for b in tower.layers] == ["layer.0", "layer.1"]


def test_every_parameter_but_scale_and_bias_is_in_one_block_of_one_tower(model: PreTrainedModel):
    ids = [id(p) for t in find_towers(model).values() for block in t.blocks for p in block.all_parameters()]
    assert len(ids) == len(set(ids))
    outside = [name for name, p in model.named_parameters() if id(p) not in set(ids)]
    assert outside == [name for name, _ in model.named_parameters() if name.startswith("logit_")]


def test_norms_before_the_layers_belong_to_embeddings_and_those_after_to_the_head(clip: CLIPModel):
    blocks = {block.name: {id(p) for p in block.all_parameters()} for block in find_towers(clip)["image"].blocks}
    assert id(clip.vision_model.pre_layrnorm.weight) in blocks["embeddings"]
    assert id(clip.vision_model.embeddings.class_embedding) in blocks["embeddings"]
    assert id(clip.vision_model.post_layernorm.weight) in blocks["head"]
    assert blocks["projection"] == {id(clip.visual_projection.weight)}


def test_any_number_of_towers_of_any_make_is_found():
    model = ThreeTowers(ThreeTowersConfig())
    towers = find_towers(model)
    assert {m: [b.name for b in tower.blocks] for m, tower in towers.items()} == {
        "audio": ["layer.0", "layer.1", "layer.2", "projection"],
        "text": ["layer.0"],
        "image": ["embeddings", "layer.0", "layer.1", "layer.2", "head", "projection"],
    }
    # Made after the layers, used before them.
    assert model.vision_model.embed in towers["image"].blocks[0].modules
    assert towers["image"].blocks[0].parameters == (model.vision_model.token,)
    assert towers["image"].blocks[4].modules == (model.vision_model.norm,)


def test_a_video_model_has_a_video_tower():
    class Videos(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision_model = nn.Linear(2, 2)

        def get_video_features(self) -> None: ...

    assert set(find_towers(Videos())) == {"video"}


def test_a_model_without_towers_is_refused():
    with pytest.raises(ValueError, match=r"Sequential has no towers: none of its parts \['0'\] is called"):
        find_towers(nn.Sequential(nn.Linear(1, 1)))


def test_an_unknown_tower_is_answered_with_those_that_there_are(clip: CLIPModel):
    with pytest.raises(
        ValueError, match=r"`x` names the tower 'audio', but CLIPModel has the towers \['image', 'text'\]"
    ):
        find_tower(clip, "audio", "x")


def test_the_class_of_a_module_is_the_one_that_was_written():
    module = nn.Linear(2, 2)
    assert class_of(module) is nn.Linear
    # As `fully_shard` does.
    module.__class__ = type("FSDPLinear", (FSDPModule, nn.Linear), {})
    assert class_of(module) is nn.Linear
