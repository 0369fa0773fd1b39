"""What a loss sees: the embeddings of one step, on this process and on all of them, and sums over them."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch_rows import BatchRows
from hf_contrastive.functional import PairMask, log_partition, paired_log_partitions, self_log_partition
from hf_contrastive.functional.tiles import KEEP_BYTES, Plan, paired_logits
from hf_contrastive.queue_rows import QueuedRows, QueueRows
from hf_contrastive.world_partition import Shard, sharded_log_partitions, sharded_self_log_partition


__all__ = ["ContrastiveBatch", "QueueRows", "QueuedRows"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveBatch(BatchRows):
    """One training step seen from one process: the rows of [`BatchRows`], with sums over all rows of the world.

    Dimension key: b = rows of this process, B = rows of all processes, d = embedding width.
    """

    def log_partitions(
        self,
        first: str,
        second: str,
        *,
        scale: Float[Tensor, ""] | float | None = None,
        without_positives: bool = False,
        false_negatives: bool = False,
        keep_bytes: int = KEEP_BYTES,
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Log partitions of local rows of `first` among the world's `second`, and of `second` among `first`.

        See [`hf_contrastive.functional.log_partitions`]. Gradients are those of the world's sums. With several
        processes, both passes exchange vectors, so all must call it and run its backward pass. Arguments as in
        [`mask`], and:

        Args:
            first: One modality.
            second: Another.
            scale: Inverse temperature. By default the model's.
            without_positives: See [`mask`].
            false_negatives: See [`mask`].
            keep_bytes: Logits to keep for the backward pass.
        """
        options = {"without_positives": without_positives, "false_negatives": false_negatives}
        return self._sums(first, second, self._scale(scale, first, second), keep_bytes, **options)[:2]

    def paired_log_partitions(
        self, first: str, second: str, *, keep_bytes: int = KEEP_BYTES
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
        """[`log_partitions`] and [`positive_logits`] at once, in less memory."""
        return self._sums(first, second, self.scale_of(first, second), keep_bytes)

    def _sums(
        self, first: str, second: str, scale: Tensor, keep_bytes: int, **options: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, y, world_x, world_y = self.local[first], self.local[second], self.world[first], self.world[second]
        mask = self.mask(first, second, **options)
        # The other direction leaves out the same pairs, but for a margin.
        back = mask if mask.ceiling is None else self.mask(second, first, **options)
        if mask.ceiling is not None:
            # What is too near to one row of a pair may not be to the other, so each direction has pairs of its own.
            rows = log_partition(x, world_y, scale, mask=mask, keep_bytes=keep_bytes)
            columns = log_partition(y, world_x, scale, mask=back, keep_bytes=keep_bytes)
            paired = self.positive_logits(first, second)
        elif self.gather is None:
            rows, columns, paired = paired_log_partitions(x, y, scale, mask=mask, keep_bytes=keep_bytes)
        else:
            plan, shard = Plan(mask=mask, keep_bytes=keep_bytes), Shard(self.gather, self.rows)
            rows, columns, paired = sharded_log_partitions(x, y, world_x, world_y, scale, shard, plan)
        return (
            self._with_further_keys(rows, x, second, scale, mask, keep_bytes),
            self._with_further_keys(columns, y, first, scale, back, keep_bytes),
            paired,
        )

    def self_log_partition(
        self,
        modality: str,
        *others: str,
        scale: Float[Tensor, ""] | float | None = None,
        false_negatives: bool = False,
        keep_bytes: int = KEEP_BYTES,
    ) -> Float[Tensor, "b"]:
        """Log partition of each local row of `modality` among the world's other rows of it.

        Args:
            modality: The modality whose rows are compared.
            others: Further modalities that a row must have to take part.
            scale: Inverse temperature. By default the model's.
            false_negatives: Whether pairs that `ids` declare alike stay in the sum. A margin does not apply.
            keep_bytes: Logits to keep for the backward pass.
        """
        scale, x = self._scale(scale, modality, *others), self.local[modality]
        mask = self.mask(modality, *others, without_positives=self.gather is not None, false_negatives=false_negatives)
        mask = replace(mask, ceiling=None, positives=None)
        if self.gather is None:
            return self_log_partition(x, scale, mask=mask, keep_bytes=keep_bytes)
        plan = Plan(mask=mask, keep_bytes=keep_bytes)
        return sharded_self_log_partition(x, self.world[modality], scale, Shard(self.gather, self.rows), plan)

    def positive_logits(self, first: str, second: str) -> Float[Tensor, "b"]:
        """Logit of each local row of `first` with its own partner in `second`."""
        return paired_logits(self.local[first], self.local[second], self.scale_of(first, second))

    def _with_further_keys(
        self,
        rows: Float[Tensor, "b"],
        queries: Float[Tensor, "b d"],
        key: str,
        scale: Tensor,
        mask: PairMask,
        keep_bytes: int,
    ) -> Float[Tensor, "b"]:
        """Log partitions of local rows with the hard negatives and the queued rows of modality `key` added."""
        if key in self.hard_negatives:
            # No ids: a hard negative belongs to an item and yet does not match it.
            further, hard = PairMask(ceiling=mask.ceiling), self.hard_negatives.read(key)
            sums = log_partition(queries, hard, scale, mask=further, keep_bytes=keep_bytes)
            rows = torch.logaddexp(rows, sums)
        if key not in self.queue:
            return rows
        queued, ids = self.queue[key]
        if ids is None or mask.query_ids is None:
            mask = PairMask(ceiling=mask.ceiling)
        else:
            mask = PairMask(ceiling=mask.ceiling, query_ids=mask.query_ids, key_ids=ids)
        return torch.logaddexp(rows, log_partition(queries, queued, scale, mask=mask, keep_bytes=keep_bytes))

    def _scale(self, scale: Float[Tensor, ""] | float | None, *modalities: str) -> Float[Tensor, ""]:
        if scale is None:
            return self.scale_of(*modalities)
        return torch.as_tensor(scale, dtype=self.logit_scale.dtype, device=self.logit_scale.device)
