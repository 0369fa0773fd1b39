"""Embeddings of past steps as further negatives."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch, QueuedRows, QueueRows


class MemoryQueue:
    """
    The latest embeddings of each modality, without gradients, the same on every process.

    He et al. 2019 (MoCo, https://huggingface.co/papers/1911.05722) fill such a queue from a slow copy of the encoder,
    Wang et al. 2019 (XBM, https://huggingface.co/papers/1912.06798) from the encoder itself, as here, whose drift
    between a few steps is small once training has settled.

    Args:
        size: Rows to remember of each modality.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"`size` of a queue must be at least 1 row, but got {size}.")
        self.size = size
        self._embeds: dict[str, Float[Tensor, "n d"]] = {}
        self._ids: dict[str, Int[Tensor, n]] = {}

    def __len__(self) -> int:
        return max((len(x) for x in self._embeds.values()), default=0)

    @torch.no_grad()
    def push(self, batch: ContrastiveBatch) -> None:
        """Remember the rows of the world's batch, and forget the oldest; all, once ids come or go."""
        for m, x in batch.world.items():
            present = batch.present[m]
            if m in self._embeds and (m in self._ids) != (batch.ids is not None):
                # Rows with and without ids cannot be told apart later: begin anew.
                self._embeds.pop(m)
                self._ids.pop(m, None)
            self._embeds[m] = self._latest(self._embeds.get(m), x.detach(), present)
            if batch.ids is not None:
                self._ids[m] = self._latest(self._ids.get(m), batch.ids, present)

    def rows(self) -> QueueRows:
        """What a batch sees of it, see [`ContrastiveBatch`]."""
        return QueueRows({m: QueuedRows(x, self._ids.get(m)) for m, x in self._embeds.items()})

    def restore(self, rows: QueueRows) -> None:
        """Be again as [`rows`] said."""
        self._embeds = {m: row.embeds for m, row in rows.plain().items()}
        self._ids = {m: row.ids for m, row in rows.plain().items() if row.ids is not None}

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        tensors = {f"embeds.{m}": x for m, x in self._embeds.items()} | {f"ids.{m}": x for m, x in self._ids.items()}
        save_file({name: x.contiguous() for name, x in tensors.items()}, file)

    def load(self, file: Path, device: torch.device | str = "cpu") -> None:
        """Read what [`save`] wrote, the latest rows of it if it was larger."""
        tensors: Mapping[str, Tensor] = {name: x[-self.size :].to(device) for name, x in load_file(file).items()}
        self._embeds = {name.removeprefix("embeds."): x for name, x in tensors.items() if name.startswith("embeds.")}
        self._ids = {name.removeprefix("ids."): x for name, x in tensors.items() if name.startswith("ids.")}

    def _latest(self, old: Tensor | None, new: Tensor, present: Bool[Tensor, "B"]) -> Tensor:
        new = new[present]
        return (new if old is None else torch.cat([old, new]))[-self.size :].clone()
