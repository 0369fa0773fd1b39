"""What a tower of the table is tried with."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig


LAYERS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = LAYERS | {"image_size": 8, "patch_size": 4}
WORDS = {"vocab_size": 99, "max_position_embeddings": 16}


@dataclass(frozen=True)
class Example:
    """A tower, and how its output is to be pooled.

    Args:
        config: Its configuration.
        pooling: What must be found.
        others: Further poolings that must be possible.
    """

    config: PreTrainedConfig
    pooling: str
    others: tuple[str, ...] = ("mean", "attention")


def text_ids(pad: int) -> dict[str, Any]:
    return LAYERS | WORDS | {"bos_token_id": 0, "eos_token_id": 98, "pad_token_id": pad}


TEXT = ("mean", "attention", "last")
