"""Who is in a batch: embeddings of one step on this process and on all of them, which are there, which count."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_contrastive.functional import PairMask
from hf_contrastive.functional.tiles import count_masked
from hf_contrastive.hard_negatives import HardNegatives
from hf_contrastive.pair_scales import PairValues, geometric_mean, mean, scale_and_bias_fields
from hf_contrastive.world_partition import Gather


Batch = TypeVar("Batch", bound="BatchRows")


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """One training step seen from one process.

    Row i of every modality is the same example. This process computed b of the world's B rows; a loss compares its own
    rows with all of them.

    Dimension key: b = rows of this process, B = rows of all processes, d = embedding width.

    Args:
        local: This process's unit-norm embeddings, by modality. Equal to `world` when there is one process.
        world: Every process's embeddings in rank order. Gradients flow back to the process that computed each row.
        present: Which rows of the world have each modality. Absent rows hold zeros and must not matter.
        logit_scale: Inverse temperature, already exponentiated. Read that of a pair of modalities by [`scale_of`].
        logit_bias: Additive bias of the logits, for sigmoid losses. Read that of a pair of modalities by [`bias_of`].
        pair_scales: Inverse temperature of each pair of modalities, where they differ; `logit_scale` is then their
            geometric mean.
        pair_biases: Bias of each pair of modalities, where they differ; `logit_bias` is then their mean.
        ids: What each row of the world shows. Rows of one id are false negatives of each other, or positives to losses
            that take several. By default every row is its own.
        margin: Cosine above that of a row's own pair from which another pair counts as a false negative. By default none.
        queue: Embeddings of past steps, by modality, which are further negatives to sums over the other modality.
        hard_negatives: Rows of all processes, by modality, that are only negatives: further keys to sums over the other
            modality, with gradients.
        rank: Index of this process; its rows start at `rank * b` of the world.
        gather: Stacks rows of all processes, with gradients. By default there is one process.
        progress: Fraction of all training steps that are done, for weights that change; 1 where nothing is trained.
    """

    local: dict[str, Float[Tensor, "b d"]]
    world: dict[str, Float[Tensor, "B d"]]
    present: dict[str, Bool[Tensor, "B"]]
    logit_scale: Float[Tensor, ""]
    logit_bias: Float[Tensor, ""] | None = None
    pair_scales: PairValues = field(default_factory=dict)
    pair_biases: PairValues = field(default_factory=dict)
    ids: Int[Tensor, "B"] | None = None
    margin: float | None = None
    # Any: a check of types at run time would ask for rows as a loss does. A mapping to [`QueuedRows`].
    queue: Any = field(default_factory=dict)
    hard_negatives: HardNegatives = field(default_factory=HardNegatives)
    rank: int = 0
    gather: Gather | None = None
    progress: float = 1.0
    # What `complete` has found, by the masks that it is of: losses ask for the same rows many times.
    _complete: dict[frozenset[int], tuple[Tensor, bool]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        size = len(next(iter(self.world.values())))
        if self.ids is not None and self.ids.shape != (size,):
            raise ValueError(
                f"`ids` must have one entry for each of {size} rows, but got shape {list(self.ids.shape)}."
            )

    @classmethod
    def whole(
        cls: type[Batch],
        embeds: dict[str, Float[Tensor, "B d"]],
        logit_scale: Float[Tensor, "*P"],
        logit_bias: Float[Tensor, "*Q"] | None = None,
        present: dict[str, Bool[Tensor, "B"]] | None = None,
        ids: Int[Tensor, "B"] | None = None,
        **fields: Any,
    ) -> Batch:
        """The batch of a single process that holds all rows. Without `present`, every row has every modality.

        Scale and bias are single or one per pair of modalities, see [`hf_contrastive.encoder.EncoderOutput`].
        """
        if present is None:
            first = next(iter(embeds.values()))
            every = torch.ones(len(first), dtype=torch.bool, device=first.device)
            present = dict.fromkeys(embeds, every)
        else:
            every = None
            # `where` and not a product: an absent row may hold anything, NaN included.
            embeds = {m: torch.where(present[m].unsqueeze(1), x, torch.zeros_like(x)) for m, x in embeds.items()}
        scales = scale_and_bias_fields(list(embeds), logit_scale, logit_bias)
        batch = cls(local=embeds, world=embeds, present=present, ids=ids, **scales, **fields)
        if every is not None:
            batch._complete[frozenset({id(every)})] = every, True
        return batch

    @cached_property
    def modalities(self) -> list[str]:
        """Names of the modalities, in an order that all processes share."""
        return sorted(self.world)

    def pairs(self, anchor: str | None = None) -> list[tuple[str, str]]:
        """Unordered pairs of modalities: all of them, or those of `anchor`, which then comes first."""
        if anchor is None:
            return list(combinations(self.modalities, 2))
        self.check_modality(anchor, "anchor")
        return [(anchor, m) for m in self.modalities if m != anchor]

    def check_modality(self, name: str, argument: str) -> None:
        """Raise a ValueError unless `name`, given as `argument`, is one of the modalities."""
        if name not in self.world:
            raise ValueError(f"`{argument}` must be one of the modalities {self.modalities}, but got {name!r}.")

    @cached_property
    def rows(self) -> slice:
        """Rows of the world that are this process's."""
        b = len(next(iter(self.local.values())))
        return slice(self.rank * b, (self.rank + 1) * b)

    @cached_property
    def positives(self) -> Int[Tensor, "b"]:
        """Row of the world that each local row is."""
        return torch.arange(self.rows.start, self.rows.stop, device=self.logit_scale.device)

    @property
    def is_plain(self) -> bool:
        """Whether every row is compared with every other of this process and nothing else: no row lacks a modality, none
        is a false negative, there are no further keys, and there is one process.
        """
        further = any(m in self.queue for m in self.modalities) or len(self.hard_negatives) > 0
        apart = further or self.ids is not None or self.margin is not None or self.gather is not None
        return not apart and self.is_complete(*self.modalities)

    def complete(self, *modalities: str) -> Bool[Tensor, "B"]:
        """Rows of the world that have every given modality."""
        return self._find_complete(modalities)[0]

    def is_complete(self, *modalities: str) -> bool:
        """Whether all rows of the world have every given modality."""
        return self._find_complete(modalities)[1]

    def _find_complete(self, modalities: Iterable[str]) -> tuple[Tensor, bool]:
        # Where nothing is missing, all modalities share one mask.
        masks = {id(mask): mask for mask in (self.present[m] for m in modalities)}
        key = frozenset(masks)
        found = self._complete.get(key)
        if found is None:
            first, *others = masks.values()
            rows = torch.stack([first, *others]).all(dim=0) if others else first
            found = self._complete[key] = rows, bool(rows.all())
        return found

    def scale_of(self, *modalities: str) -> Float[Tensor, ""]:
        """Inverse temperature of a pair of modalities; of more or of one, the geometric mean over the pairs among them
        or with it.
        """
        return geometric_mean(self.pair_scales, modalities) if self.pair_scales else self.logit_scale

    def bias_of(self, first: str, second: str) -> Float[Tensor, ""] | None:
        """Bias of a pair of modalities, where the model has a bias."""
        return mean(self.pair_biases, (first, second)) if self.pair_biases else self.logit_bias

    # ---- Means ----

    def weights(self, *modalities: str) -> Float[Tensor, "b"]:
        """What each local row counts in the mean over all rows of the world that have every given modality.

        Weighted sums are this process's share: averaged over processes, as DDP does with gradients, they give that
        mean. All are zero where no row is complete.
        """
        return self._weights_of(self.complete(*modalities))

    def mean(self, values: Float[Tensor, "b"], *modalities: str) -> Float[Tensor, ""]:
        """Share of this process in the mean of `values` over the rows that have every given modality, see [`weights`]."""
        if self.is_complete(*modalities):
            return values.mean()
        return self.mean_over(self.complete(*modalities), values)

    def mean_over(self, counted: Bool[Tensor, "B"], values: Float[Tensor, "b"]) -> Float[Tensor, ""]:
        """Share of this process in the mean of `values` over the `counted` rows of the world; zero if none is."""
        # `where` and not a product alone: a row that does not count may have any value.
        weights = self._weights_of(counted).to(values.dtype)
        return torch.where(weights > 0, values, torch.zeros_like(values)).mul(weights).sum()

    def _weights_of(self, counted: Bool[Tensor, "B"]) -> Float[Tensor, "b"]:
        mine = counted[self.rows].to(self.logit_scale.dtype)
        num_processes = len(counted) / len(mine)
        # In the precision of the rows: a quotient of integers would be in single.
        return mine * (num_processes / counted.sum().clamp(min=1).to(mine.dtype))

    def count_false_negatives(self, first: str, second: str) -> int:
        """How many pairs of a local row of `first` and a row of `second` `ids` and `margin` leave out of sums."""
        complete = self.complete(first, second)
        num_incomplete = len(complete[self.rows]) * len(complete) - int(complete[self.rows].sum() * complete.sum())
        return count_masked(self.local[first], self.world[second], self.mask(first, second)) - num_incomplete

    def gather_values(self, values: Float[Tensor, "b *rest"]) -> Float[Tensor, "B *rest"]:
        """Values of all processes in rank order, with gradients, for terms that are no mean over rows.

        A term made of the result alone, so the same on every process, is its own share. The backward pass is a
        collective. Gather sums of local rows as one more row, `values.unsqueeze(0)`.
        """
        return values if self.gather is None else self.gather(values)

    # ---- Which pairs count ----

    def mask(
        self, query: str, *others: str, without_positives: bool = False, false_negatives: bool = False
    ) -> PairMask:
        """Pairs of a local row of `query` and a row of the world that a sum takes.

        Args:
            query: Modality of the queries.
            others: Further modalities that a row must have to take part; the first is that of the keys.
            without_positives: Whether each row's own partner is left out.
            false_negatives: Whether pairs that `ids` or `margin` declare alike stay in the sum.
        """
        keys = None if self.is_complete(query, *others) else self.complete(query, *others)
        ids = None if false_negatives else self.ids
        # With one process, queries and keys are told by the same tensors, which marks the mask as symmetric.
        queries, query_ids = (z if z is None or self.gather is None else z[self.rows] for z in (keys, ids))
        ceiling = None
        if self.margin is not None and others and not false_negatives:
            ceiling = (self.local[query] * self.local[others[0]]).sum(dim=1).detach() + self.margin
        return PairMask(
            queries=queries,
            keys=keys,
            skip=self.positives if without_positives else None,
            query_ids=query_ids,
            key_ids=ids,
            ceiling=ceiling,
            positives=self.positives,
        )
