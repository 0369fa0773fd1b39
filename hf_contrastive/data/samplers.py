"""Orders of rows whose consecutive groups are the global batches of training.

Accelerate gives process r every W-th batch of an order, so the rows of one step, on all processes, are consecutive in it:
what holds for each group of `group_size` rows holds for each global batch. The orders depend on seed and epoch alone, so
every process draws the same, and a resumed run skips what it has seen without reading a row.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Sampler
from transformers.utils import logging

from hf_contrastive.data.distinct import Integers, codes_of, count_distinct_groups, distinct_groups


logger = logging.get_logger(__name__)


class GroupSampler(Sampler[int]):
    """
    Rows in an order made of groups of `group_size`, another one in each epoch.

    Args:
        group_size (`int`):
            Rows of a global batch: of all processes, and of all accumulated batches where they share negatives.
        seed (`int`):
            Seed of the order, together with the epoch.
    """

    def __init__(self, group_size: int, seed: int) -> None:
        if group_size < 1:
            raise ValueError(f"`group_size` must be at least 1 row, but got {group_size}.")
        self.group_size, self.seed, self.epoch = group_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(self.groups(np.random.default_rng((self.seed, self.epoch))).ravel().tolist())

    def __len__(self) -> int:
        raise NotImplementedError

    def groups(self, rng: np.random.Generator) -> Integers:
        """The rows of an epoch, of shape (groups, group_size)."""
        raise NotImplementedError


class NoDuplicatesSampler(GroupSampler):
    """
    Each row once per epoch, in global batches without duplicates.

    Args:
        values (`Sequence`):
            What each row shows, integers or strings. No two rows of a group share a value.
        group_size (`int`):
            Rows of a global batch.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.

    Rows that fit into no full batch of an epoch are left out of it, others in each epoch; their number is logged. They are
    fewer than a batch, unless a value has more rows than there are batches.

    Raises:
        ValueError: There are fewer distinct values than rows in a group, so not one batch could be filled.
    """

    def __init__(self, values: Any, group_size: int, *, seed: int = 0) -> None:
        super().__init__(group_size, seed)
        self.codes = codes_of(values)
        self.num_groups = count_distinct_groups(self.codes, group_size)
        if self.num_groups == 0:
            raise ValueError(
                f"A global batch has {group_size} rows, no two of which may share a value, but the {len(self.codes)} rows "
                f"have {len(np.unique(self.codes))} different values. Lower the batch size, or allow duplicates."
            )
        if left := len(self.codes) - len(self):
            # As many as any loader drops at its end are no news.
            (logger.warning if left >= group_size else logger.info)(
                f"{left} of {len(self.codes)} rows are left out of each epoch, others each time: they fill no batch of "
                f"{group_size} rows without duplicates. {self.num_groups} batches per epoch."
            )

    def __len__(self) -> int:
        return self.num_groups * self.group_size

    def groups(self, rng: np.random.Generator) -> Integers:
        """The rows of an epoch, of shape (groups, group_size)."""
        return distinct_groups(self.codes, self.group_size, rng)


class MixedSampler(GroupSampler):
    r"""
    Rows of several datasets, which lie one after the other, in given shares.

    Every epoch takes exactly the same numbers from each dataset, the shares up to rounding, in random order; a dataset's
    rows come in random order too, each before any comes again.

    Args:
        sizes (`dict[str, int]`):
            Rows of each dataset, in their order.
        group_size (`int`):
            Rows of a global batch.
        weights (`dict[str, float]`, *optional*):
            Share of each dataset, up to a factor. By default its size, so that each row comes once.
        homogeneous (`bool`, *optional*, defaults to `False`):
            Whether all rows of a global batch are of one dataset.
        stopping (`str`, *optional*, defaults to `"all_exhausted"`):
            End of an epoch. `"all_exhausted"`: every row was there, those of datasets with more than their share of weight
            repeatedly. `"first_exhausted"`: as long as no row comes twice.
        values (`Sequence`, *optional*):
            What each row shows, for homogeneous batches without duplicates.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.

    Raises:
        ValueError: A dataset cannot fill a batch, weights are not positive, or `values` are given for batches that are not
            homogeneous.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        group_size: int,
        *,
        weights: Mapping[str, float] | None = None,
        homogeneous: bool = False,
        stopping: str = "all_exhausted",
        values: Any = None,
        seed: int = 0,
    ) -> None:
        super().__init__(group_size, seed)
        if values is not None and not homogeneous:
            raise ValueError(
                "Global batches without duplicates from several datasets must be homogeneous: `homogeneous_batches=True`."
            )
        self.sizes, self.homogeneous = dict(sizes), homogeneous
        self.offsets = np.cumsum([0, *self.sizes.values()])
        self.codes = None if values is None else codes_of(values)
        # An epoch is counted in batches of one dataset, or in rows.
        units = {name: self._units(index) for index, name in enumerate(self.sizes)}
        if homogeneous and (short := [name for name, number in units.items() if number == 0]):
            raise ValueError(
                f"Datasets {short} cannot fill one global batch of {group_size} rows{' without duplicates' * (values is not None)}."
                f" Rows: {self.sizes}. Lower the batch size, or leave them out."
            )
        self.taken = quotas(units, weights, stopping)
        if len(self) == 0:
            raise ValueError(
                f"An epoch takes {self.taken} rows, fewer than one global batch of {group_size}. Lower the batch size, or let "
                "an epoch go on until every row was there (`all_exhausted`)."
            )

    def __len__(self) -> int:
        total = sum(self.taken.values())
        return total * self.group_size if self.homogeneous else total // self.group_size * self.group_size

    def groups(self, rng: np.random.Generator) -> Integers:
        """The rows of an epoch, of shape (groups, group_size)."""
        parts = [self._draw(index, number, rng) for index, number in enumerate(self.taken.values())]
        units = np.concatenate(parts)[rng.permutation(sum(self.taken.values()))]
        return units if self.homogeneous else units[: len(self)].reshape(-1, self.group_size)

    def _units(self, index: int) -> int:
        size = int(self.offsets[index + 1] - self.offsets[index])
        if not self.homogeneous:
            return size
        codes = self._codes(index)
        return size // self.group_size if codes is None else count_distinct_groups(codes, self.group_size)

    def _codes(self, index: int) -> Integers | None:
        return None if self.codes is None else self.codes[self.offsets[index] : self.offsets[index + 1]]

    def _draw(self, index: int, number: int, rng: np.random.Generator) -> Integers:
        """`number` units of a dataset, from as many passes over it as that takes."""
        passes = []
        found = 0
        while found < number:
            passes.append(self._pass(index, rng))
            found += len(passes[-1])
        shape = (0, self.group_size) if self.homogeneous else (0,)
        drawn: Integers = np.concatenate(passes or [np.empty(shape, dtype=np.int64)])[:number] + self.offsets[index]
        return drawn

    def _pass(self, index: int, rng: np.random.Generator) -> Integers:
        codes = self._codes(index)
        if codes is not None:
            return distinct_groups(codes, self.group_size, rng)
        order = rng.permutation(int(self.offsets[index + 1] - self.offsets[index]))
        if not self.homogeneous:
            return order
        return order[: len(order) // self.group_size * self.group_size].reshape(-1, self.group_size)


def quotas(units: Mapping[str, int], weights: Mapping[str, float] | None, stopping: str) -> dict[str, int]:
    """
    How many units an epoch takes of each dataset.

    >>> quotas({"large": 90, "small": 10}, {"large": 0.5, "small": 0.5}, "all_exhausted")
    {'large': 90, 'small': 90}
    >>> quotas({"large": 90, "small": 10}, {"large": 0.5, "small": 0.5}, "first_exhausted")
    {'large': 10, 'small': 10}
    >>> quotas({"large": 90, "small": 10}, None, "all_exhausted")
    {'large': 90, 'small': 10}
    """
    if stopping not in ("first_exhausted", "all_exhausted"):
        raise ValueError(f"`stopping` must be 'first_exhausted' or 'all_exhausted', but got {stopping!r}.")
    if weights is None:
        return dict(units)
    share = normalized(weights, list(units))
    # Units of an epoch, were it as long as each dataset wants it.
    lengths = [units[name] / share[name] for name in units]
    if stopping == "all_exhausted":
        return {name: int(np.ceil(max(lengths) * share[name] - 1e-6)) for name in units}
    return {name: int(np.floor(min(lengths) * share[name] + 1e-6)) for name in units}


def normalized(weights: Mapping[str, float], names: list[str]) -> dict[str, float]:
    """Weights that sum to one, in the order of `names`."""
    if set(weights) != set(names):
        raise ValueError(f"`weights` must name the datasets {names}, but got {sorted(weights)}.")
    if bad := {name: w for name, w in weights.items() if not 0 < w < float("inf")}:
        raise ValueError(f"`weights` must be positive and finite, but got {bad}. Leave a dataset out to not use it.")
    total = sum(weights.values())
    return {name: weights[name] / total for name in names}
