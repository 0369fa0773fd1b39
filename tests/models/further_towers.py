"""Tiny towers of further architectures, beside those that every change is thought through with."""

from transformers import (
    Aimv2VisionConfig,
    AlbertConfig,
    BeitConfig,
    ChineseCLIPTextConfig,
    DebertaV2Config,
    DeiTConfig,
    DINOv3ViTConfig,
    ElectraConfig,
    Gemma3TextConfig,
    GPT2Config,
    HubertConfig,
    LlamaConfig,
    MistralConfig,
    NomicBertConfig,
    ParakeetEncoderConfig,
    ResNetConfig,
    Siglip2TextConfig,
    Siglip2VisionConfig,
    Swinv2Config,
    T5Config,
    VideoMAEConfig,
    VJEPA2Config,
    Wav2Vec2BertConfig,
    WavLMConfig,
    XLMRobertaConfig,
)

from tests.models.tower_example import IMAGE, LAYERS, TEXT, WORDS, Example, text_ids


CAUSAL = {"num_key_value_heads": 1, "head_dim": 8}
SOUND = LAYERS | {
    "conv_dim": [8, 8],
    "conv_stride": [5, 4],
    "conv_kernel": [10, 4],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 1}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "image_size": 16, "patch_size": 2}
VJEPA = {
    "pred_hidden_size": 16,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "pred_num_mask_tokens": 2,
}
CLS = ("cls", "mean", "attention")

FURTHER = {
    # Pictures of any shape, cut into patches before.
    "siglip2_vision": Example(Siglip2VisionConfig(**LAYERS, patch_size=4, num_patches=16), "pooler"),
    "aimv2": Example(Aimv2VisionConfig(**IMAGE), "pooler"),
    "dinov3": Example(DINOv3ViTConfig(**IMAGE, num_register_tokens=1), "pooler", CLS),
    "beit": Example(BeitConfig(**IMAGE), "pooler", CLS),
    "deit": Example(DeiTConfig(**IMAGE), "cls", ("pooler", "mean", "attention")),
    "swinv2": Example(Swinv2Config(**SWIN), "pooler"),
    "resnet": Example(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", image_size=16),
        "pooler",
    ),
    "videomae": Example(VideoMAEConfig(**IMAGE, num_frames=4, tubelet_size=2), "mean", ("attention",)),
    "vjepa2": Example(
        VJEPA2Config(**LAYERS, **VJEPA, patch_size=4, crop_size=8, frames_per_clip=4, mlp_ratio=1.5),
        "mean",
        ("attention",),
    ),
    "siglip2_text": Example(Siglip2TextConfig(**LAYERS, **WORDS), "pooler", TEXT),
    "chinese_clip_text": Example(ChineseCLIPTextConfig(**text_ids(0)), "cls", TEXT),
    "xlm_roberta": Example(XLMRobertaConfig(**text_ids(1)), "mean", ("cls", "pooler", "attention", "last")),
    "deberta": Example(
        DebertaV2Config(**text_ids(0), relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8),
        "mean",
        ("cls", "attention", "last"),
    ),
    "electra": Example(ElectraConfig(**text_ids(0), embedding_size=16), "mean", ("cls", "attention", "last")),
    "albert": Example(AlbertConfig(**text_ids(0), embedding_size=16), "mean", ("cls", "attention", "last")),
    "nomic_bert": Example(NomicBertConfig(**text_ids(0), head_dim=8), "mean", ("cls", "attention", "last")),
    "t5": Example(T5Config(**T5, vocab_size=99), "mean", ("cls", "attention", "last")),
    "gpt2": Example(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, vocab_size=99), "last", TEXT[:2]),
    "llama": Example(LlamaConfig(**text_ids(1), **CAUSAL), "last", TEXT[:2]),
    "mistral": Example(MistralConfig(**text_ids(1), **CAUSAL), "last", TEXT[:2]),
    "gemma3": Example(Gemma3TextConfig(**text_ids(1), **CAUSAL), "last", TEXT[:2]),
    # As EmbeddingGemma, which sees both ways.
    "gemma3, both ways": Example(
        Gemma3TextConfig(**text_ids(1), **CAUSAL, use_bidirectional_attention=True), "mean", ("cls", "attention")
    ),
    "hubert": Example(HubertConfig(**SOUND), "mean", ("attention",)),
    "wavlm": Example(WavLMConfig(**SOUND, num_buckets=8, max_bucket_distance=16), "mean", ("attention",)),
    "wav2vec2_bert": Example(
        Wav2Vec2BertConfig(**LAYERS, feature_projection_input_dim=8, conv_depthwise_kernel_size=3),
        "mean",
        ("attention",),
    ),
    "parakeet": Example(
        ParakeetEncoderConfig(**LAYERS, num_mel_bins=8, subsampling_conv_channels=4), "mean", ("attention",)
    ),
}
