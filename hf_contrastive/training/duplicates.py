"""Rows of a batch that show the same: by their ids, which losses leave out, and by their tokens, which they cannot."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_rows


def text_hashes(chunks: Sequence[Mapping[str, Tensor]]) -> Int[Tensor, "b"] | None:
    """A number for the tokens of each row, padding aside, or None where there are no `input_ids`."""
    parts = [_text_hashes(inputs) for inputs in chunks]
    found = [part for part in parts if part is not None]
    return torch.cat(found) if len(found) == len(parts) else None


def _text_hashes(inputs: Mapping[str, Tensor]) -> Int[Tensor, "b"] | None:
    tokens = inputs.get("input_ids")
    if tokens is None or tokens.dim() != 2:
        return None
    mask = inputs.get("attention_mask")
    kept = torch.ones_like(tokens) if mask is None or mask.shape != tokens.shape else mask
    rows = zip(tokens.cpu(), kept.bool().cpu(), strict=True)
    digests = [hashlib.blake2b(row[keep].numpy().tobytes(), digest_size=8).digest() for row, keep in rows]
    numbers = [int.from_bytes(digest, "big", signed=True) for digest in digests]
    return torch.tensor(numbers, device=tokens.device)


def count_duplicates(batch: ContrastiveBatch, texts: Int[Tensor, "b"] | None) -> tuple[float, float | None]:
    """Other rows of the world per row that show the same, by `ids`, and those of the same text that ids do not name.

    The second is None where texts are unknown. Processes must all know them or none.
    """
    size = len(batch.world[batch.modalities[0]])
    masked = 0.0 if batch.ids is None else _pairs_alike(batch.ids.unsqueeze(1)) / size
    if texts is None or len(texts) != len(batch.local[batch.modalities[0]]):
        return masked, None
    world = gather_rows(texts) if batch.gather is not None else texts
    # Rows without text show a blank one to the model, which no loss sees.
    there = batch.present.get("text", torch.ones_like(world, dtype=torch.bool))
    alike = _pairs_alike(world[there].unsqueeze(1))
    if batch.ids is not None:
        alike -= _pairs_alike(torch.stack([world, batch.ids], dim=1)[there])
    return masked, alike / size


def _pairs_alike(rows: Int[Tensor, "B n"]) -> int:
    _, counts = torch.unique(rows, dim=0, return_counts=True)
    return int((counts * (counts - 1)).sum())
