"""The proof that an export does what the model does: both run on the same few examples."""

import copy
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hf_contrastive.export.errors import DifferentExportError
from hf_contrastive.models.examples import example_inputs
from hf_contrastive.models.peculiarities import peculiarities_of


TOLERANCE = 1e-6
TEXTS = ["a red picture", "green", "something blue and something else"]
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))
    for seed, size in enumerate([(40, 56), (40, 56), (64, 48), (30, 30), (90, 20)])
]
SOUNDS = [
    np.sin(np.arange(samples) / (5 + samples % 7)).astype(np.float32) for samples in (8000, 8000, 9000, 12000, 4000)
]
RAW: dict[str, Any] = {"text": TEXTS, "image": PICTURES, "audio": SOUNDS}
# Rows of two batches, and tokens of their texts.
SIZES = ((3, 6), (5, 9))


def reference_of(model: Any) -> Any:
    """A copy of a model that can be compared: on the CPU, in single precision, in evaluation mode, plain attention."""
    made = copy.deepcopy(model).float().cpu().eval()
    made.set_attn_implementation("eager")
    return made


def example_batch(encoder: Any, rows: int = 3, tokens: int = 6) -> dict[str, Tensor]:
    """Inputs of an encoder under its own names; texts have several lengths, where the encoder takes a mask."""
    made = example_inputs(encoder)
    if "input_ids" not in made:
        return {name: x[torch.arange(rows) % len(x)] for name, x in made.items()}
    config = encoder.config.get_text_config()
    size, fixed = config.vocab_size, peculiarities_of(encoder.config).is_padded
    tokens = config.max_position_embeddings if fixed else tokens
    end = config.eos_token_id if isinstance(config.eos_token_id, int) and 0 <= config.eos_token_id < size else size - 1
    ids = torch.randint(min(3, size - 1), size, (rows, tokens), generator=torch.Generator().manual_seed(0))
    ids[ids == end] = size // 2
    lengths = torch.full((rows,), tokens) if fixed else tokens - torch.arange(rows) % 3
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids[torch.arange(rows), lengths - 1] = end
    pad = config.pad_token_id if isinstance(config.pad_token_id, int) and 0 <= config.pad_token_id < size else 0
    ids = torch.where(mask == 1, ids, pad)
    return {"input_ids": ids} | ({} if fixed else {"attention_mask": mask})


def raw_texts(longest: int, positions: int | None) -> list[str]:
    """Texts, the last of which is cut, where a tokenizer cuts after `longest` tokens that a tower has `positions` for."""
    room = longest if positions is None else positions
    words = longest + 5 if longest <= min(room, 512) else min(room, 512) // 8
    return [*TEXTS, " ".join(["many"] * words)]


def check_equal(what: str, expected: Tensor, found: Tensor, tolerance: float = TOLERANCE) -> None:
    """
    Compare what the model gives with what its export gives.

    Raises:
        DifferentExportError: They differ by more than `tolerance`, or are no numbers.
    """
    if expected.shape != found.shape:
        raise DifferentExportError(f"{what} should have shape {list(expected.shape)}, but has {list(found.shape)}.")
    difference = (expected.double() - found.double()).abs().max().item()
    # Not the other way around: NaN must not pass.
    if not difference <= tolerance:
        raise DifferentExportError(
            f"{what} of the export, loaded again, differ by {difference:.2g} from the model's; {tolerance:g} is allowed. "
            "Nothing was written."
        )
