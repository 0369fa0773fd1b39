"""One tiny tower of each architecture that the package is tried with."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    ASTConfig,
    BertConfig,
    ClapAudioConfig,
    ClapTextConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    Dinov2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    Qwen3Config,
    RobertaConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    SwinConfig,
    ViTConfig,
    ViTMAEConfig,
    Wav2Vec2Config,
    WhisperConfig,
)

from tests.models.further_towers import FURTHER
from tests.models.tower_example import IMAGE as IMAGE
from tests.models.tower_example import LAYERS as LAYERS
from tests.models.tower_example import TEXT as TEXT
from tests.models.tower_example import WORDS as WORDS
from tests.models.tower_example import Example as Example
from tests.models.tower_example import text_ids as text_ids


TABLE = {
    "clip_vision": Example(CLIPVisionConfig(**IMAGE), "pooler", ("cls", "mean", "attention")),
    "siglip_vision": Example(SiglipVisionConfig(**IMAGE), "pooler"),
    "vit": Example(ViTConfig(**IMAGE), "cls", ("pooler", "mean", "attention")),
    "dinov2": Example(Dinov2Config(**IMAGE), "pooler", ("cls", "mean", "attention")),
    "convnext": Example(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=16), "pooler"),
    "swin": Example(
        SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2, image_size=16, patch_size=2), "pooler"
    ),
    "vit_mae": Example(ViTMAEConfig(**IMAGE), "cls"),
    "clip_text": Example(CLIPTextConfig(**text_ids(1)), "pooler", TEXT),
    "siglip_text": Example(SiglipTextConfig(**LAYERS, **WORDS), "pooler", TEXT),
    "bert": Example(BertConfig(**LAYERS, **WORDS), "mean", ("cls", "pooler", "attention", "last")),
    "distilbert": Example(
        DistilBertConfig(dim=16, hidden_dim=24, n_layers=2, n_heads=2, **WORDS), "mean", ("cls", "attention", "last")
    ),
    "roberta": Example(RobertaConfig(**text_ids(1)), "mean", ("cls", "pooler", "attention", "last")),
    "mpnet": Example(MPNetConfig(**text_ids(1)), "mean", ("cls", "pooler", "attention", "last")),
    "modernbert": Example(
        ModernBertConfig(**text_ids(1), cls_token_id=0, sep_token_id=98, local_attention=4),
        "mean",
        ("cls", "attention", "last"),
    ),
    "qwen3": Example(Qwen3Config(**text_ids(1), num_key_value_heads=1, head_dim=8), "last", ("mean", "attention")),
    "whisper": Example(
        WhisperConfig(
            d_model=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=24,
            num_mel_bins=8,
            max_source_positions=10,
            vocab_size=99,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=0,
        ),
        "mean",
        ("attention",),
    ),
    "ast": Example(
        ASTConfig(**LAYERS, patch_size=4, frequency_stride=4, time_stride=4, max_length=16, num_mel_bins=8),
        "pooler",
        ("cls", "mean", "attention"),
    ),
    "clap_audio": Example(
        ClapAudioConfig(
            patch_embeds_hidden_size=8,
            depths=[1, 1],
            num_attention_heads=[1, 2],
            hidden_size=16,
            window_size=2,
            spec_size=16,
            num_mel_bins=8,
            patch_size=2,
            patch_stride=[2, 2],
            num_hidden_layers=2,
        ),
        "pooler",
    ),
    "clap_text": Example(ClapTextConfig(**text_ids(1), projection_dim=16), "pooler", ("cls", "mean", "attention")),
    "wav2vec2": Example(
        Wav2Vec2Config(
            **LAYERS,
            conv_dim=[8, 8],
            conv_stride=[5, 4],
            conv_kernel=[10, 4],
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            num_feat_extract_layers=2,
        ),
        "mean",
        ("attention",),
    ),
    **FURTHER,
}


def inputs_for(encoder: Any, rows: int = 4) -> dict[str, Tensor]:
    """Inputs of a tower under its own names, with texts of several lengths."""
    from hf_contrastive.models.examples import example_inputs

    generator = torch.Generator().manual_seed(2)
    made = {}
    for name, x in example_inputs(encoder).items():
        shape = (rows, *x.shape[1:])
        made[name] = torch.randn(shape, generator=generator) if x.is_floating_point() else x[:1].expand(shape).clone()
    if "input_ids" in made:
        made["input_ids"] = torch.randint(3, 98, (rows, 8), generator=generator)
        made["input_ids"][:, 7] = 98
        made["attention_mask"] = torch.ones(rows, 8, dtype=torch.long)
    return made
