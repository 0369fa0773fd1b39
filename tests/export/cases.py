"""Tiny encoders of pictures and texts, with processors, for every format."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

from transformers import CLIPImageProcessor, PreTrainedTokenizerFast, set_seed

from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.models.from_scratch import train_tokenizer
from tests.conftest import COLORS
from tests.models.tower_table import TABLE


WIDTH = 12


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
    """Named towers of the table, joined, with a processor where they read pictures and texts."""
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
    if set(made) == set(model.modalities):
        model.processor = MultiEncoderProcessor.for_model(model, made)
    return model
