"""What each tower's embedding is made of, against what its authors take, by hand, one example at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModel,
    ClapConfig,
    ClapModel,
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
    set_seed,
)

from hf_contrastive.models import MultiEncoder
from tests.models.test_multi_encoder import config_of
from tests.models.tower_table import TABLE, inputs_for


# What `transformers` 5.20 imports DeBERTa with.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

# Tokens of the rows of a batch.
LENGTHS = (8, 5, 3)


def first(model: Any, output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]


def average(model: Any, output: Any) -> Tensor:
    return output.last_hidden_state[0].sum(0, keepdim=True) / output.last_hidden_state.shape[1]


def final(model: Any, output: Any) -> Tensor:
    return output.last_hidden_state[:, -1]


def average_of_map(model: Any, output: Any) -> Tensor:
    return output.last_hidden_state.flatten(2).mean(2)


# From the output for one example without padding.
REFERENCES: dict[str, Callable[[Any, Any], Tensor]] = {
    "clip_vision": lambda model, output: model.post_layernorm(output.last_hidden_state[:, 0]),
    "siglip_vision": lambda model, output: model.head(output.last_hidden_state),
    "vit": first,
    "dinov2": first,
    "convnext": lambda model, output: model.layernorm(average_of_map(model, output)),
    "swin": average,
    "vit_mae": first,
    "clip_text": final,
    "siglip_text": lambda model, output: model.head(output.last_hidden_state[:, -1]),
    "bert": average,
    "distilbert": average,
    "roberta": average,
    "mpnet": average,
    "modernbert": average,
    "qwen3": final,
    "whisper": average,
    "ast": lambda model, output: (output.last_hidden_state[:, 0] + output.last_hidden_state[:, 1]) / 2,
    "clap_audio": average_of_map,
    "clap_text": lambda model, output: torch.tanh(model.pooler.dense(output.last_hidden_state[:, 0])),
    "wav2vec2": average,
    "siglip2_vision": lambda model, output: model.head(output.last_hidden_state),
    "aimv2": lambda model, output: model.head(output.last_hidden_state),
    "dinov3": first,
    "beit": lambda model, output: model.pooler.layernorm(output.last_hidden_state[:, 1:].mean(1)),
    "deit": first,
    "resnet": average_of_map,
    "siglip2_text": lambda model, output: model.head(output.last_hidden_state[:, -1]),
    "chinese_clip_text": first,
    **dict.fromkeys(("swinv2", "videomae", "vjepa2", "hubert", "wavlm", "wav2vec2_bert", "parakeet"), average),
    **dict.fromkeys(("xlm_roberta", "deberta", "electra", "albert", "nomic_bert", "t5", "gemma3, both ways"), average),
    **dict.fromkeys(("gpt2", "llama", "mistral", "gemma3"), final),
}
# They read all positions and no mask, so there is no padding that they would not see.
UNMASKED = ("siglip_text", "siglip2_text")


def bare(name: str) -> MultiEncoder:
    """A model whose `get_probe_features` are what is pooled."""
    set_seed(0)
    width = MultiEncoder.from_towers({"probe": config_of(name), "other": 6}).config.modalities["probe"].features
    set_seed(0)
    towers = {"probe": config_of(name), "other": 6}
    return MultiEncoder.from_towers(towers, width=width, head={"probe": "none"})


def rows_of(model: MultiEncoder) -> list[dict[str, Tensor]]:
    """Three examples under the tower's names, texts of three lengths that end alike, each a batch of one."""
    inputs = inputs_for(model.probe_model, rows=3)
    rows = [{key: x[row : row + 1] for key, x in inputs.items()} for row in range(3)]
    for row, length in zip(rows, LENGTHS, strict=True):
        if "input_ids" in row:
            ids = row["input_ids"]
            row["input_ids"] = torch.cat([ids[:, : length - 1], ids[:, -1:]], 1)
            row["attention_mask"] = torch.ones_like(row["input_ids"])
    return rows


def joined(rows: list[dict[str, Tensor]], padding: dict[str, int]) -> dict[str, Tensor]:
    """The rows as a batch, padded on the right."""
    longest = {key: max(row[key].shape[1] for row in rows) for key in padding if key in rows[0]}
    padded = [
        {k: F.pad(x, (0, longest[k] - x.shape[1]), value=padding[k]) if k in longest else x for k, x in row.items()}
        for row in rows
    ]
    return {key: torch.cat([row[key] for row in padded]) for key in rows[0]}


@pytest.mark.parametrize("name", list(TABLE))
def test_a_batch_has_the_vectors_that_its_examples_have_alone(name: str):
    model = bare(name)
    pad = getattr(model.probe_model.config, "pad_token_id", None)
    rows = rows_of(model)
    # In another order than that of the references.
    batch = joined(rows[::-1], {"input_ids": 1 if pad is None else pad, "attention_mask": 0})
    if name in UNMASKED:
        rows = rows[:1] * 3
        batch = joined(rows, {})
    with torch.no_grad():
        found = model.get_probe_features(**{model.input_name("probe", key): x for key, x in batch.items()})
        outputs = [model.probe_model(**row, **more_of(name, model, row)) for row in rows]
        expected = torch.cat([REFERENCES[name](model.probe_model, output) for output in outputs])
    assert expected.std(0).max() > 1e-3 or name in UNMASKED, "examples that are all alike tell nothing"
    torch.testing.assert_close(found.pooler_output.flip(0), expected, rtol=0, atol=2e-5)


def more_of(name: str, model: MultiEncoder, row: dict[str, Tensor]) -> dict[str, Tensor]:
    # ViT-MAE shuffles patches by this noise.
    return {"noise": torch.arange(4.0).expand(1, -1)} if name == "vit_mae" else {}


def test_every_tower_of_the_table_has_a_reference():
    assert set(REFERENCES) == set(TABLE)


# ---- Dual encoders, whose own features are known ----


def dual_encoder(kind: str) -> Any:
    set_seed(0)
    if kind == "clip":
        config = CLIPConfig(
            text_config=config_of("clip_text").to_dict(), vision_config=config_of("clip_vision").to_dict()
        )
        config.projection_dim = 12
        return CLIPModel(config).eval()
    if kind == "siglip":
        texts, pictures = config_of("siglip_text").to_dict(), config_of("siglip_vision").to_dict()
        return SiglipModel(SiglipConfig(text_config=texts, vision_config=pictures)).eval()
    texts, sounds = config_of("clap_text").to_dict(), config_of("clap_audio").to_dict()
    return ClapModel(ClapConfig(text_config=texts, audio_config=sounds, projection_dim=16)).eval()


@pytest.mark.parametrize(("kind", "other"), [("clip", "image"), ("siglip", "image"), ("clap", "audio")])
@pytest.mark.parametrize("given", ["folder", "model"])
def test_towers_of_a_dual_encoder_return_what_it_returns(kind: str, other: str, given: str, tmp_path: Any):
    own = dual_encoder(kind)
    own.save_pretrained(tmp_path)
    source = tmp_path if given == "folder" else AutoModel.from_pretrained(tmp_path).eval()
    head = "none" if kind == "siglip" else "mlp" if kind == "clap" else "linear"
    width = 12 if kind == "clip" else 16
    model = MultiEncoder.from_towers({other: source, "text": source}, width=width, head=head)
    inputs = {m: inputs_for(getattr(model, f"{m}_model")) for m in (other, "text")}
    with torch.no_grad():
        for m, mine in inputs.items():
            copy_head(own, model, m, kind)
            expected = getattr(own, f"get_{m}_features")(**mine)
            expected = expected if isinstance(expected, Tensor) else expected.pooler_output
            found = model(**{model.input_name(m, key): x for key, x in mine.items()})[f"{m}_embeds"]
            torch.testing.assert_close(found, F.normalize(expected, dim=1), rtol=0, atol=1e-6)


def copy_head(own: Any, model: MultiEncoder, modality: str, kind: str) -> None:
    if kind == "clip":
        name = "visual_projection" if modality == "image" else "text_projection"
        getattr(model, f"{modality}_projection").load_state_dict(getattr(own, name).state_dict())
    elif kind == "clap":
        # Its head has another activation and a bias: run it in place of ours.
        setattr(model, f"{modality}_projection", getattr(own, f"{modality}_projection"))
