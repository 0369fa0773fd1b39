"""Any towers in one model: every architecture of the table, and what models of several towers do."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPVisionModelWithProjection,
    T5Config,
    set_seed,
)

from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.losses import get_loss, total
from hf_contrastive.models import MultiEncoder, MultiEncoderConfig
from hf_contrastive.testing import batch_of
from hf_contrastive.towers.find import find_towers
from tests.conftest import tiny_clip, tiny_siglip
from tests.models.tower_table import LAYERS, TABLE, WORDS, inputs_for


# What `transformers` 5.20 imports DeBERTa with.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
NAMES = list(TABLE)


def config_of(name: str) -> Any:
    return copy.deepcopy(TABLE[name].config)


def joined(name: str, **kwargs: Any) -> MultiEncoder:
    """The tower of a name beside precomputed features."""
    set_seed(0)
    return MultiEncoder.from_towers({"probe": config_of(name), "other": 6}, width=12, **kwargs)


def inputs_of(model: MultiEncoder, rows: int = 4) -> dict[str, Tensor]:
    own = {model.input_name("probe", name): x for name, x in inputs_for(model.probe_model, rows).items()}
    return own | {"other_features": torch.randn(rows, 6, generator=torch.Generator().manual_seed(5))}


def image_and_text(**kwargs: Any) -> MultiEncoder:
    set_seed(0)
    return MultiEncoder.from_towers({"image": config_of("vit"), "text": config_of("bert")}, width=12, **kwargs)


def two_inputs(rows: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    mask = torch.ones(rows, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {
        "pixel_values": torch.randn(rows, 3, 8, 8, generator=generator),
        "input_ids": torch.randint(2, 98, (rows, 6), generator=generator),
        "attention_mask": mask,
    }


# ---- Every tower ----


@pytest.mark.parametrize("name", NAMES)
def test_the_pooling_is_found_from_the_architecture(name: str):
    model = joined(name)
    assert model.config.modalities["probe"].pooling == TABLE[name].pooling
    with torch.no_grad():
        output = model(**inputs_of(model))
    assert list(output) == ["other_embeds", "probe_embeds"]
    for x in output.values():
        assert x.shape == (4, 12)
        torch.testing.assert_close(x.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_every_trainable_parameter(name: str):
    model = joined(name, logit_bias_init_value=-1.0).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0)
    with contrastive_forward(model):
        output = model(**inputs_of(model))
    total(get_loss("siglip")(batch_of(output))).backward()
    optimizer.step()
    same = [name for name, p in model.named_parameters() if p.requires_grad and torch.equal(p, before[name])]
    assert same == []
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_loaded_bit_for_bit(name: str, tmp_path: Path):
    model = joined(name)
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is MultiEncoder
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(x, state[key]) for key, x in model.state_dict().items())
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {key for key, p in loaded.named_parameters() if p.requires_grad} == trained
    with torch.no_grad():
        expected, found = model(**inputs_of(model)), loaded(**inputs_of(model))
    for key, x in expected.items():
        # Convolutions add up in another order where weights lie elsewhere in memory.
        torch.testing.assert_close(found[key], x, rtol=0, atol=1e-6)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_other_poolings_that_are_possible_work(name: str):
    for pooling in TABLE[name].others:
        model = joined(name, pooling=pooling, head="mlp").train()
        embeds = model(**inputs_of(model))["probe_embeds"]
        embeds.sum().backward()
        idle = [key for key, p in model.probe_model.named_parameters() if p.requires_grad and p.grad is None]
        assert (pooling, idle) == (pooling, [])


# ---- Pooling ----


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_padding_on_either_side_changes_nothing(side: str, pooling: str):
    set_seed(0)
    model = MultiEncoder.from_towers({"text": config_of("qwen3"), "other": 6}, pooling=pooling, width=12)
    ids = torch.randint(2, 90, (1, 5), generator=torch.Generator().manual_seed(0))
    padding = torch.ones(1, 3, dtype=torch.long)
    parts = [padding, ids] if side == "left" else [ids, padding]
    masks = [padding * 0, torch.ones_like(ids)] if side == "left" else [torch.ones_like(ids), padding * 0]
    mask = torch.cat(masks, 1)
    with torch.no_grad():
        alone = model(input_ids=ids)["text_embeds"]
        # Rotary positions are relative, so where the text begins does not matter.
        padded = model(input_ids=torch.cat(parts, 1), attention_mask=mask)["text_embeds"]
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-5)


def test_a_masked_auto_encoder_masks_nothing_and_repeats_itself():
    model = joined("vit_mae")
    inputs = inputs_of(model)
    with torch.no_grad():
        first, second = (model(**inputs)["probe_embeds"] for _ in range(2))
        full = model.probe_model.embeddings(inputs["pixel_values"])[0]
    assert torch.equal(first, second)
    assert full.shape[1] == 5
    assert TABLE["vit_mae"].config.mask_ratio == 0.75, "the user's own configuration is left alone"


@pytest.mark.parametrize(
    ("name", "pooling", "possible"),
    [
        ("distilbert", "pooler", r"\['cls', 'mean', 'last', 'attention'\]"),
        ("swin", "cls", r"\['pooler', 'mean', 'attention'\]"),
        ("convnext", "last", r"\['pooler', 'mean', 'attention'\]"),
        ("qwen3", "cls", r"\['mean', 'last', 'attention'\]"),
    ],
)
def test_a_pooling_that_a_tower_cannot_have_is_refused(name: str, pooling: str, possible: str):
    with pytest.raises(
        ValueError, match=rf"The probe tower, a \w+, returned nothing .* by '{pooling}'.*last_hidden_state.*{possible}"
    ):
        joined(name, pooling=pooling)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_towers_are_joined_as_trainable_where_no_gradients_are_kept(context: Any):
    towers = [AutoModel.from_config(config_of("bert")) for _ in range(2)]
    expected = MultiEncoder.from_towers({"text": towers[0], "other": 6}).config.modalities["text"]
    with context():
        model = MultiEncoder.from_towers({"text": towers[1], "other": 6})
    assert model.config.modalities["text"].to_dict() == expected.to_dict()
    assert all(p.requires_grad for p in model.text_model.parameters())


def test_a_tower_that_cannot_be_run_is_named():
    with pytest.raises(ValueError, match=r"The text tower, a BertModel, was tried with .* and failed: "):
        MultiEncoder.from_towers({"text": BertConfig(**LAYERS, vocab_size=99, max_position_embeddings=2), "x": 6})


def test_an_own_pooling_that_is_not_used_is_left_out():
    assert image_and_text().text_model.pooler is None
    assert image_and_text(pooling={"text": "pooler"}).text_model.pooler is not None


# ---- Where towers come from ----


def test_pretrained_weights_are_kept(tmp_path: Path):
    set_seed(1)
    bert = BertModel(config_of("bert"))
    bert.save_pretrained(tmp_path)
    for source in (str(tmp_path), tmp_path, bert):
        set_seed(2)
        model = MultiEncoder.from_towers({"text": source, "image": config_of("vit")})
        state = model.text_model.state_dict()
        assert all(torch.equal(x, state[key]) for key, x in bert.state_dict().items() if "pooler" not in key)


def test_the_towers_of_a_dual_encoder_are_taken_by_modality(tmp_path: Path):
    set_seed(0)
    clip, siglip = tiny_clip(), tiny_siglip()
    clip.save_pretrained(tmp_path)
    for image in (tmp_path, clip):
        model = MultiEncoder.from_towers({"image": image, "text": siglip})
        assert torch.equal(
            model.image_model.state_dict()["post_layernorm.weight"],
            clip.vision_model.state_dict()["post_layernorm.weight"],
        )
        assert model.text_model is siglip.text_model
    with pytest.raises(ValueError, match=r"has the towers \['vision_config', 'text_config'\].*modality 'audio'"):
        MultiEncoder.from_towers({"audio": tmp_path, "text": siglip})


def test_a_tower_may_end_in_a_projection_of_its_own(tmp_path: Path):
    set_seed(0)
    vision = CLIPVisionModelWithProjection(tiny_clip().config.vision_config).eval()
    model = MultiEncoder.from_towers(
        {"image": vision, "text": config_of("bert")}, width=vision.config.projection_dim, head={"image": "none"}
    )
    inputs = two_inputs()
    with torch.no_grad():
        own = vision(inputs["pixel_values"]).image_embeds
        torch.testing.assert_close(model(**inputs)["image_embeds"], nn.functional.normalize(own))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded.image_model) is CLIPVisionModelWithProjection
    assert torch.equal(loaded(**inputs)["image_embeds"], model(**inputs)["image_embeds"])


def test_of_an_encoder_with_a_decoder_the_encoder_is_taken():
    t5 = T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, vocab_size=99, decoder_start_token_id=0)
    model = MultiEncoder.from_towers({"text": t5, "audio": config_of("whisper")}, width=12)
    assert type(model.text_model).__name__ == "T5Stack"
    assert type(model.audio_model).__name__ == "WhisperEncoder"


def test_a_configuration_builds_a_model():
    config = MultiEncoderConfig(
        modalities={
            "image": {"tower": {"model_type": "vit", **LAYERS, "image_size": 8, "patch_size": 4}},
            "text": {"tower": {"model_type": "bert", **LAYERS, **WORDS}, "pooling": "cls", "head": "mlp"},
        },
        width=12,
    )
    for model in (MultiEncoder(config), MultiEncoder.from_config(config), AutoModel.from_config(config)):
        assert type(model) is MultiEncoder
        assert model(**two_inputs())["text_embeds"].shape == (4, 12)
    assert config.modalities["image"].pooling == "cls"


def test_attention_and_precision_are_those_asked_for(tmp_path: Path):
    image_and_text().save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16, attn_implementation="eager")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {model.image_model.config._attn_implementation, model.text_model.config._attn_implementation} == {"eager"}
    assert model(**two_inputs())["image_embeds"].dtype == torch.float32
    model.save_pretrained(tmp_path / "half")
    again = AutoModel.from_pretrained(tmp_path / "half")
    assert all(torch.equal(x, again.state_dict()[key]) for key, x in model.state_dict().items())
    assert again.dtype == torch.bfloat16
    assert image_and_text().text_model.config._attn_implementation == "sdpa"


def test_towers_of_several_precisions_become_single():
    half = BertModel(config_of("bert")).to(torch.bfloat16)
    model = MultiEncoder.from_towers({"text": half, "image": config_of("vit")})
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# ---- Modalities ----


def test_modalities_without_inputs_are_absent():
    model, inputs = image_and_text(), two_inputs()
    with torch.no_grad():
        both = model(**inputs)
        assert list(model(pixel_values=inputs["pixel_values"], input_ids=None)) == ["image_embeds"]
        torch.testing.assert_close(
            model(image_pixel_values=inputs["pixel_values"])["image_embeds"], both["image_embeds"]
        )
    with pytest.raises(ValueError, match=r"no input of any of its modalities \['image', 'text'\]"):
        model()


def test_two_towers_of_a_kind_have_prefixed_inputs():
    model = MultiEncoder.from_towers({"query": config_of("bert"), "document": config_of("qwen3")}, width=12)
    inputs = two_inputs()
    output = model(
        query_input_ids=inputs["input_ids"],
        query_attention_mask=inputs["attention_mask"],
        document_input_ids=inputs["input_ids"],
    )
    assert list(output) == ["document_embeds", "query_embeds"]
    with pytest.raises(
        ValueError, match=r"'input_ids' could be meant for .*: call it 'document_input_ids' or 'query_"
    ):
        model(input_ids=inputs["input_ids"])
    with pytest.raises(ValueError, match="No tower reads the input 'pixels'"):
        model(pixels=inputs["pixel_values"])


def test_pictures_of_any_shape_do_not_see_the_padding_of_their_batch():
    model = joined("siglip2_vision", pooling="mean")
    generator = torch.Generator().manual_seed(0)
    # Of 2 x 3 and of 4 x 1 patches, each of 4 x 4 pixels in three colors.
    shapes = torch.tensor([[2, 3], [4, 1]])
    pixels = [torch.randn(1, int(shape.prod()), 48, generator=generator) for shape in shapes]
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    batch = torch.cat([pixels[0], nn.functional.pad(pixels[1], (0, 0, 0, 2), value=9.0)])
    with torch.no_grad():
        together = model(pixel_values=batch, pixel_attention_mask=mask, spatial_shapes=shapes)["probe_embeds"]
        for row, x in enumerate(pixels):
            whole = torch.ones(1, x.shape[1], dtype=torch.long)
            alone = model(pixel_values=x, pixel_attention_mask=whole, spatial_shapes=shapes[row : row + 1])
            torch.testing.assert_close(together[row], alone["probe_embeds"][0], rtol=0, atol=1e-5)


def test_a_mask_belongs_to_the_texts_if_sounds_have_one_as_well():
    model = MultiEncoder.from_towers({"audio": config_of("whisper"), "text": config_of("bert")}, width=12)
    assert model.input_name("text", "attention_mask") == "attention_mask"
    assert model.input_name("audio", "attention_mask") == "audio_attention_mask"
    assert model.input_name("audio", "input_features") == "input_features"


def test_the_mask_of_a_sound_follows_its_tokens():
    model = joined("wav2vec2")
    sound = torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 400, dtype=torch.long)
    mask[:, 200:] = 0
    with torch.no_grad():
        half = model(input_values=sound, attention_mask=mask)["probe_embeds"]
        assert not torch.equal(half, model(input_values=sound)["probe_embeds"])


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_a_precision_may_be_named(dtype: Any):
    model = image_and_text(dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with pytest.raises(ValueError, match=r"`dtype` must be a precision such as .*, but got 'half16'"):
        image_and_text(dtype="half16")


@pytest.mark.parametrize("own_head", [False, True])
def test_a_shared_tower_is_one_tower(own_head: bool, tmp_path: Path):
    set_seed(0)
    head = {"query": "linear", "document": "mlp"} if own_head else "linear"
    model = MultiEncoder.from_towers({"query": config_of("bert")}, shared={"document": "query"}, head=head, width=12)
    assert hasattr(model, "document_projection") == own_head
    assert not hasattr(model, "document_model")
    ids = two_inputs()["input_ids"]
    with torch.no_grad():
        output = model(query_input_ids=ids, document_input_ids=ids)
    assert torch.equal(output["query_embeds"], output["document_embeds"]) != own_head
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)(query_input_ids=ids, document_input_ids=ids)
    assert all(torch.equal(again[key], x) for key, x in output.items())


@pytest.mark.parametrize("per_pair", [False, True])
def test_temperature_and_bias_have_a_dimension(per_pair: bool, tmp_path: Path):
    model = MultiEncoder.from_towers({"a": 4, "b": 5, "c": 6}, scale_per_pair=per_pair, logit_bias_init_value=-2.0)
    size = 3 if per_pair else 1
    assert model.logit_scale.shape == model.logit_bias.shape == (size,)
    torch.testing.assert_close(model.logit_scale.exp(), torch.full((size,), 1 / 0.07))
    nn.init.normal_(model.logit_scale)
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModel.from_pretrained(tmp_path).logit_scale, model.logit_scale)


def test_weights_may_be_cut_into_files(tmp_path: Path):
    model = image_and_text()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    state = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(x, state[key]) for key, x in model.state_dict().items())


def test_a_model_of_an_earlier_version_is_loaded(tmp_path: Path):
    model = image_and_text()
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for modality in config["modalities"].values():
        # What the first version wrote.
        assert {"tower", "pooling", "head", "features"} <= set(modality)
        for name in set(modality) - {"tower", "pooling", "head", "features"}:
            del modality[name]
    file.write_text(json.dumps(config))
    loaded = AutoModel.from_pretrained(tmp_path)
    assert all(torch.equal(x, loaded.state_dict()[key]) for key, x in model.state_dict().items())
    with torch.no_grad():
        expected, found = model(**two_inputs()), loaded(**two_inputs())
    for key, x in expected.items():
        torch.testing.assert_close(found[key], x, rtol=0, atol=1e-6)


def test_what_a_later_version_adds_beside_the_modalities_is_kept(tmp_path: Path):
    image_and_text().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"later": {"a": 1}}))
    AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["later"] == {"a": 1}


def test_weights_that_are_missing_start_as_new_ones(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    image_and_text(pooling="attention", logit_bias_init_value=-3.0).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {key: x for key, x in state.items() if key.startswith("image_model") or key.startswith("text_model")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = AutoModel.from_pretrained(tmp_path)
    assert model.logit_scale.item() == pytest.approx(2.659, abs=1e-3)
    assert model.logit_bias.item() == -3
    assert 0.1 < model.text_projection.head.weight.std() * 4 < 2
    assert 0 < model.text_projection.pooling.query.abs().max() < 2


# ---- The rest of the package ----


def test_towers_are_found_with_their_blocks():
    towers = find_towers(image_and_text())
    assert {m: tower.encoder_name for m, tower in towers.items()} == {"image": "image_model", "text": "text_model"}
    for tower in towers.values():
        assert [block.name for block in tower.blocks][:3] == ["embeddings", "layer.0", "layer.1"]
        assert tower.blocks[-1].name == "projection"


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_found_in_every_tower(name: str):
    assert len(find_towers(joined(name))["probe"].layers) >= 1


def test_a_forward_pass_is_one_graph_for_a_compiler():
    run = subprocess.run([sys.executable, "-m", "tests.models.compiled_forward"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("image", ["vit", "swin"])
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_activations_can_be_computed_again(image: str):
    set_seed(0)
    # Swin's first layer returns more than a tensor.
    model = MultiEncoder.from_towers({"image": config_of(image), "text": config_of("bert")}, width=12).train()
    inputs = two_inputs()
    if image == "swin":
        inputs["pixel_values"] = torch.randn(4, 3, 16, 16)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            # Its new name, where there is one.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model.zero_grad()
        set_seed(7)  # dropout
        output = model(**inputs)
        (output["image_embeds"] * output["text_embeds"]).sum().backward()
        gradients.append({key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None})
    assert sum(getattr(module, "gradient_checkpointing", False) for module in model.modules()) >= 3
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, rtol=0, atol=1e-6)


def test_layers_that_must_not_be_split_are_those_of_all_towers():
    assert {"ViTLayer", "BertLayer"} <= set(image_and_text()._no_split_modules)


# ---- What is refused ----


def test_one_modality_is_refused():
    with pytest.raises(ValueError, match=r"`modalities` must be two or more, but got \['text'\]"):
        MultiEncoder.from_towers({"text": config_of("bert")})


def test_without_a_head_a_tower_must_fit():
    with pytest.raises(ValueError, match=r"Modality 'text': Without a head .* 12, but it is 16 wide"):
        image_and_text(head={"text": "none"})


def test_pickled_weights_are_refused(tmp_path: Path):
    model = image_and_text()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only as pytorch_model\.bin, which are pickles"):
        AutoModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"only as pytorch_model\.bin, which are pickles"):
        MultiEncoder.from_towers({"image": tmp_path, "text": 6})
    with pytest.raises(ValueError, match="`use_safetensors` must be True"):
        MultiEncoder.from_pretrained(tmp_path, use_safetensors=False)


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path):
    folder = tmp_path / "model"
    image_and_text().save_pretrained(folder)
    (folder / "model.safetensors").rename(tmp_path / "stolen.safetensors")
    index = {"metadata": {}, "weight_map": {"logit_scale": "../stolen.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for load in (AutoModel.from_pretrained, MultiEncoder.from_pretrained):
        with pytest.raises(ValueError, match=r"names the file '\.\./stolen"):
            load(folder)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"pooling": {"sound": "cls"}}, r"`pooling` is for \['sound'\], but the modalities are \['image', 'text'\]"),
        ({"widht": 3}, r"`from_towers` knows no \['widht'\]. A configuration takes \['width', "),
        ({"head": "deep"}, "`head` must be one of linear, mlp, none, but got 'deep'"),
        ({"pooling": "max"}, "`pooling` must be one of cls, .*, but got 'max'"),
        ({"shared": {"document": "query"}}, r"`shared_with` of 'document' must be one of .*\['image', 'text'\]"),
        ({"shared": {"image": "text"}}, r"`shared` has \['image'\], which have towers of their own"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        image_and_text(**kwargs)


def test_one_model_as_two_towers_is_refused():
    bert = BertModel(config_of("bert"))
    message = r"'query' and 'document' have the same model .*`shared=\{'document': 'query'\}`"
    with pytest.raises(ValueError, match=message):
        MultiEncoder.from_towers({"query": bert, "document": bert})
    MultiEncoder.from_towers({"query": bert, "document": copy.deepcopy(bert)})


def test_a_tower_of_no_kind_is_refused():
    with pytest.raises(ValueError, match=r"The text tower must be a name or folder, .* but got a list"):
        MultiEncoder.from_towers({"text": [1], "other": 6})
