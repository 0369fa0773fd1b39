"""Which pairs of a query and a key take part in a reduction, said in O(q + k) numbers."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PairMask:
    """
    The pairs (query, key) that a sum leaves out. An empty one leaves out none.

    Dimension key: q = queries, k = keys.

    Args:
        queries: Queries that take part. By default all.
        keys: Keys that take part. By default all.
        skip: For each query, one key to leave out: its own row in leave-one-out estimates, its positive in DCL.
        query_ids: What each query shows. Pairs of one id are false negatives and left out, all but `positives`.
        key_ids: What each key shows.
        ceiling: For each query, the highest inner product that a negative may have; keys above it are taken for false
            negatives and left out, all but `positives`.
        positives: For each query, the key that ids and ceiling spare. By default they spare none. Gradients of these
            pairs are exact even where the others' are rounded to half precision.
    """

    queries: Bool[Tensor, "q"] | None = None
    keys: Bool[Tensor, "k"] | None = None
    skip: Int[Tensor, "q"] | None = None
    query_ids: Int[Tensor, "q"] | None = None
    key_ids: Int[Tensor, "k"] | None = None
    ceiling: Float[Tensor, "q"] | None = None
    positives: Int[Tensor, "q"] | None = None
    # What `_may_lie_inside` has found, by name and rows: an accelerator is asked once and not for every tile.
    _spans: dict[tuple[str, int, int], tuple[int, int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if (self.query_ids is None) != (self.key_ids is None):
            given = "`query_ids`" if self.key_ids is None else "`key_ids`"
            raise ValueError(
                f"False negatives are found by comparing `query_ids` with `key_ids`, but only {given} came."
            )

    def check(self, num_queries: int, num_keys: int) -> None:
        """Raise a ValueError unless every tensor has one entry for each query or key."""
        for name in ("queries", "skip", "query_ids", "ceiling", "positives", "keys", "key_ids"):
            value, wanted = getattr(self, name), num_keys if name.startswith("key") else num_queries
            if value is not None and value.shape != (wanted,):
                raise ValueError(f"`{name}` of the mask must have shape [{wanted}], but got {list(value.shape)}.")

    @property
    def is_open(self) -> bool:
        """Whether no pair is left out."""
        return self.skip is None and self.is_full

    @property
    def is_full(self) -> bool:
        """Whether no pair is left out, but those that `skip` names."""
        return self.queries is None and self.keys is None and self.query_ids is None and self.ceiling is None

    def columns(self, part: slice) -> "PairMask":
        """The same mask of the keys in `part` alone, which are counted from its start."""

        def within(keys: Int[Tensor, "q"] | None) -> Int[Tensor, "q"] | None:
            # Keys before the part have negative numbers and lie in no tile.
            return None if keys is None else keys - part.start

        return replace(
            self,
            keys=None if self.keys is None else self.keys[part],
            key_ids=None if self.key_ids is None else self.key_ids[part],
            skip=within(self.skip),
            positives=within(self.positives),
        )

    def fill_(self, logits: Float[Tensor, "r c"], rows: slice, columns: slice, scale: Tensor) -> None:
        """Set the logits of left-out pairs to minus infinity, in the tile of `rows` and `columns`.

        Args:
            logits: The tile, inner products times `scale`.
            rows: Which queries it is of.
            columns: Which keys it is of.
            scale: Inverse temperature.
        """
        out = self._false_negatives(logits, rows, columns, scale)
        if out is not None:
            logits.masked_fill_(out, -torch.inf)
        if self.queries is not None:
            logits.masked_fill_(~self.queries[rows].unsqueeze(1), -torch.inf)
        if self.keys is not None:
            logits.masked_fill_(~self.keys[columns], -torch.inf)
        if self.skip is not None and self._may_lie_inside("skip", rows, columns):
            logits[_inside(self.skip, rows, columns)] = -torch.inf

    def positives_inside(self, rows: slice, columns: slice) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"]] | None:
        """Where in the tile of `rows` and `columns` positives lie; None where it has none."""
        if self.positives is None or not self._may_lie_inside("positives", rows, columns):
            return None
        place = _inside(self.positives, rows, columns)
        return place if len(place[0]) else None

    def _false_negatives(
        self, logits: Float[Tensor, "r c"], rows: slice, columns: slice, scale: Tensor
    ) -> Bool[Tensor, "r c"] | None:
        out = None
        if self.query_ids is not None and self.key_ids is not None:
            out = self.query_ids[rows].unsqueeze(1) == self.key_ids[columns]
        if self.ceiling is not None:
            above = logits > (self.ceiling[rows] * scale).unsqueeze(1)
            out = above if out is None else out | above
        if out is not None and self.positives is not None and self._may_lie_inside("positives", rows, columns):
            out[_inside(self.positives, rows, columns)] = False
        return out

    def _may_lie_inside(self, name: str, rows: slice, columns: slice) -> bool:
        """Whether keys that `name` gives the queries of `rows` lie around or in `columns`; elsewhere no tile need look."""
        place = (name, rows.start, rows.stop)
        if place not in self._spans:
            self._spans[place] = _span(getattr(self, name)[rows])
        first, last = self._spans[place]
        return first < columns.stop and last >= columns.start


def _span(keys: Int[Tensor, "q"]) -> tuple[int, int]:
    if not len(keys):
        return 0, -1
    first, last = torch.stack(keys.aminmax()).tolist()
    return first, last


def _inside(keys: Int[Tensor, "q"], rows: slice, columns: slice) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"]]:
    """Where in the tile of `rows` and `columns` the key of each query lies, for those that lie in it."""
    place = keys[rows] - columns.start
    here = ((place >= 0) & (place < columns.stop - columns.start)).nonzero().squeeze(1)
    return here, place[here]
