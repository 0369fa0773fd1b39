"""Rows of a batch that show the same: by their ids, which losses leave out, and by their tokens, which they cannot."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.towers.find import base_model


# Modalities of texts, each with what the model calls its tokens and their mask.
TokenInputs: TypeAlias = Mapping[str, tuple[str, str]]
TEXT: TokenInputs = {"text": ("input_ids", "attention_mask")}


def token_inputs(model: nn.Module) -> TokenInputs:
    """The inputs of a model that are tokens of texts, by modality."""
    model = base_model(model)
    # Dual encoders of `transformers` read texts in one tower; one that has several says what it calls their inputs.
    name: Any = getattr(model, "input_name", None)
    if name is None:
        return TEXT
    readers = [m for m in model.modalities if "input_ids" in model.inputs_of(m)]  # type: ignore[union-attr, operator]
    return {m: (name(m, "input_ids"), name(m, "attention_mask")) for m in readers}


def text_hashes(chunks: Sequence[Mapping[str, Tensor]], inputs: TokenInputs = TEXT) -> dict[str, Int[Tensor, "b"]]:
    """A number for the tokens of each row, padding aside, by modality; without those that some chunk has no tokens of."""
    found = {m: [_hashes(chunk, *names) for chunk in chunks] for m, names in inputs.items()}
    known = {m: [part for part in parts if part is not None] for m, parts in found.items()}
    return {m: torch.cat(parts) for m, parts in known.items() if len(parts) == len(chunks)}


def _hashes(inputs: Mapping[str, Tensor], tokens_name: str, mask_name: str) -> Int[Tensor, "b"] | None:
    tokens = inputs.get(tokens_name)
    if tokens is None or tokens.dim() != 2:
        return None
    mask = inputs.get(mask_name)
    kept = torch.ones_like(tokens) if mask is None or mask.shape != tokens.shape else mask
    rows = zip(tokens.cpu(), kept.bool().cpu(), strict=True)
    digests = [hashlib.blake2b(row[keep].numpy().tobytes(), digest_size=8).digest() for row, keep in rows]
    numbers = [int.from_bytes(digest, "big", signed=True) for digest in digests]
    return torch.tensor(numbers, device=tokens.device)


def count_duplicates(batch: ContrastiveBatch, texts: Mapping[str, Int[Tensor, "b"]]) -> tuple[float, float | None]:
    """Other rows of the world per row that show the same, by `ids`, and those of the same text that ids do not name.

    Of several modalities of texts, the one with the most tells. The second is None where texts are unknown. Processes must
    all know the same.
    """
    size = len(batch.world[batch.modalities[0]])
    masked = 0.0 if batch.ids is None else _pairs_alike(batch.ids.unsqueeze(1)) / size
    unmasked = [_count_unmasked(batch, m, hashes) for m, hashes in texts.items()]
    return masked, max(unmasked) / size if unmasked else None


def _count_unmasked(batch: ContrastiveBatch, modality: str, hashes: Int[Tensor, "b"]) -> int:
    world = hashes if batch.gather is None else batch.gather(hashes)
    # Rows without text show a blank one to the model, which no loss sees.
    there = batch.present.get(modality, torch.ones_like(world, dtype=torch.bool))
    alike = _pairs_alike(world[there].unsqueeze(1))
    return alike if batch.ids is None else alike - _pairs_alike(torch.stack([world, batch.ids], dim=1)[there])


def _pairs_alike(rows: Int[Tensor, "B n"]) -> int:
    _, counts = torch.unique(rows, dim=0, return_counts=True)
    return int((counts * (counts - 1)).sum())
