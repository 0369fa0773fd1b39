"""Tiny encoders of pictures and texts, with processors, for every format."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    CLIPImageProcessor,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
    set_seed,
)

from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.models.from_scratch import train_tokenizer
from tests.conftest import COLORS
from tests.models.tower_table import TABLE


WIDTH = 12


@dataclass(frozen=True)
class Case:
    """Towers, the class that holds them, or why none does.

    Args:
        towers: By modality, names of the table.
        written: Class that is expected, or None.
        reason: Part of the reason why there is none, for the plain class and for `SentenceTransformer`.
    """

    towers: dict[str, str]
    written: str | None = None
    plain: str = ""
    texts: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


POOLER = {"pooling": {"text": "pooler"}}
SIGLIP = {"image": "siglip_vision", "text": "siglip_text"}
VT, MEAN, PADDED = "VisionTextDualEncoderModel", "pooling of 'text' is 'mean'", "reads texts of one length"
CASES = {
    "clip": Case({"image": "clip_vision", "text": "clip_text"}, "CLIPModel"),
    "clip without heads": Case(
        {"image": "clip_vision", "text": "clip_text"}, "CLIPModel", kwargs={"head": "none", "width": 16}
    ),
    "clip, half": Case({"image": "clip_vision", "text": "clip_text"}, "CLIPModel", kwargs={"dtype": torch.bfloat16}),
    "clip, mlp": Case(
        {"image": "clip_vision", "text": "clip_text"}, plain="the head of 'image' is 'mlp'", kwargs={"head": "mlp"}
    ),
    "clip with bias": Case(
        {"image": "clip_vision", "text": "clip_text"},
        plain="the model's `logit_bias` is -3.0",
        kwargs={"logit_bias_init_value": -3.0},
    ),
    "siglip": Case(SIGLIP, "SiglipModel", texts=PADDED, kwargs={"head": "none", "width": 16}),
    "siglip of 64": Case(
        {"image": "siglip_vision", "text": "siglip_text of 64"},
        "SiglipModel",
        texts=PADDED,
        kwargs={"head": "none", "width": 16, "logit_bias_init_value": -1.0},
    ),
    "siglip, head of texts": Case(
        SIGLIP,
        "SiglipModel",
        texts=PADDED,
        kwargs={"head": {"image": "none"}, "width": 16, "logit_bias_init_value": -9.0},
    ),
    "siglip, both heads": Case(SIGLIP, plain="'image' has a linear head", texts=PADDED),
    "vit, bert": Case({"image": "vit", "text": "bert"}, VT, kwargs=POOLER),
    "vit pooler, roberta": Case({"image": "vit", "text": "roberta"}, VT, kwargs={"pooling": "pooler"}),
    "dinov2, mpnet": Case({"image": "dinov2", "text": "mpnet"}, VT, kwargs=POOLER),
    "convnext, bert": Case({"image": "convnext", "text": "bert"}, VT, kwargs=POOLER),
    "swin, clip": Case({"image": "swin", "text": "clip_text"}, VT),
    "clip vision, bert": Case({"image": "clip_vision", "text": "bert"}, VT, kwargs=POOLER),
    "siglip vision, clip": Case({"image": "siglip_vision", "text": "clip_text"}, VT),
    "vit_mae, bert": Case({"image": "vit_mae", "text": "bert"}, plain="pooling of 'image' is 'cls'", kwargs=POOLER),
    "vit, bert mean": Case({"image": "vit", "text": "bert"}, plain=MEAN),
    "vit, roberta mean": Case({"image": "vit", "text": "roberta"}, plain=MEAN),
    "vit, mpnet, mlp": Case({"image": "vit", "text": "mpnet"}, plain=MEAN, kwargs={"head": "mlp"}),
    "vit, distilbert": Case({"image": "vit", "text": "distilbert"}, plain=MEAN),
    "vit, modernbert": Case({"image": "vit", "text": "modernbert"}, plain=MEAN),
    "vit, bert cls": Case(
        {"image": "vit", "text": "bert"}, plain="pooling of 'text' is 'cls'", kwargs={"pooling": {"text": "cls"}}
    ),
    "vit, qwen3": Case({"image": "vit", "text": "qwen3"}, plain="pooling of 'text' is 'last'"),
    "vit, bert attention": Case(
        {"image": "vit", "text": "bert"},
        plain="pooling of 'text' is 'attention'",
        texts="no learned attention",
        kwargs={"pooling": {"text": "attention"}},
    ),
    "vit, siglip": Case(
        {"image": "vit", "text": "siglip_text"}, plain="the tower of 'text' is a SiglipText", texts=PADDED
    ),
    "vit, clap": Case({"image": "vit", "text": "clap_text"}, plain="is a ClapTextModel", texts="is a ClapTextModel"),
    "clap": Case({"audio": "clap_audio", "text": "clap_text"}, "ClapModel", texts="is a ClapTextModel"),
    "clap, mlp": Case(
        {"audio": "clap_audio", "text": "clap_text"},
        "ClapModel",
        texts="is a ClapTextModel",
        kwargs={"head": "mlp", "width": 16},
    ),
    "whisper, bert": Case({"audio": "whisper", "text": "bert"}, plain="the tower of 'audio' is a WhisperEncoder"),
    "ast, clap": Case(
        {"audio": "ast", "text": "clap_text"}, plain="the tower of 'audio' is a ASTModel", texts="is a ClapTextModel"
    ),
    "wav2vec2, bert": Case({"audio": "wav2vec2", "text": "bert"}, plain="the tower of 'audio' is a Wav2Vec2Model"),
    "three": Case({"image": "vit", "text": "bert", "audio": "ast"}, plain="Name two of them"),
}


RATE = 4000
EXTRACTORS = {
    "ast": lambda: ASTFeatureExtractor(sampling_rate=RATE, num_mel_bins=8, max_length=16),
    "clap_audio": lambda: ClapFeatureExtractor(
        feature_size=8,
        sampling_rate=RATE,
        fft_window_size=512,
        hop_length=390,
        frequency_max=2000,
        max_length_s=3,
        truncation="rand_trunc",
    ),
    "wav2vec2": lambda: Wav2Vec2FeatureExtractor(sampling_rate=RATE),
    "whisper": lambda: WhisperFeatureExtractor(feature_size=8, hop_length=800, chunk_length=1),
}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([f"a {color} picture" for color in COLORS], vocab_size=300, max_tokens=12)


def config_of(name: str) -> Any:
    """A tower of the table; texts have as many words as the tokenizer, and its special tokens; `" of 64"` positions."""
    name, _, positions = name.partition(" of ")
    config = copy.deepcopy(TABLE[name].config)
    if positions:
        config.max_position_embeddings = int(positions)
    if hasattr(config, "vocab_size"):
        config.vocab_size = 300
        for token in ("bos", "eos", "pad"):
            setattr(config, f"{token}_token_id", getattr(tokenizer(), f"{token}_token_id"))
    return config


def encoder(towers: Mapping[str, str], **kwargs: Any) -> MultiEncoder:
    """Named towers of the table, joined, with a processor."""
    set_seed(0)
    model = MultiEncoder.from_towers({m: config_of(name) for m, name in towers.items()}, **{"width": WIDTH} | kwargs)
    kinds = {m: model.inputs_of(m)[0] for m in model.modalities}
    made = {}
    for modality, reads in kinds.items():
        if reads == "pixel_values":
            size = getattr(model.config.modalities[modality].tower, "image_size", 16)
            square = {"height": size, "width": size}
            made[modality] = CLIPImageProcessor(size=square, crop_size=square)
        elif reads == "input_ids":
            made[modality] = copy.deepcopy(tokenizer())
        elif towers[modality] in EXTRACTORS:
            made[modality] = EXTRACTORS[towers[modality]]()
    if set(made) == set(model.modalities):
        model.processor = MultiEncoderProcessor.for_model(model, made)
    return model
