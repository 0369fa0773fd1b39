"""Which value of a list an example has: the first, a random one, or each of them in turn."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hf_contrastive.data.skipped import SharedEpoch


# "first", "random" or "all".
Pick: TypeAlias = str


class Picker:
    """
    Picks values of lists, by draws that do not depend on how many processes and workers read.

    Args:
        pick (`str` or `dict[str, str]`):
            What to take of a list, for all modalities or by modality: `"first"`, `"random"` or `"all"`. Modalities that
            are not named take the first.
        modalities (`list[str]`):
            Names of the modalities.
        seed (`int`):
            Seed of the draws, together with the epoch.

    Raises:
        ValueError: `pick` is another word, or of another modality.
    """

    def __init__(self, pick: Pick | Mapping[str, Pick], modalities: Sequence[str], seed: int) -> None:
        by_modality = dict(pick) if isinstance(pick, Mapping) else dict.fromkeys(modalities, pick)
        if unknown := sorted(set(by_modality) - set(modalities)):
            raise ValueError(f"`pick` must be of the modalities {list(modalities)}, but got {unknown}.")
        if wrong := sorted({how for how in by_modality.values() if how not in ("first", "random", "all")}):
            raise ValueError(f"`pick` must be 'first', 'random' or 'all', but got {wrong[0]!r}.")
        self.picks: dict[str, Pick] = dict.fromkeys(modalities, "first") | by_modality
        self.seed, self._epoch = seed, SharedEpoch()

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, for which values are drawn anew, in workers that live on too."""
        self._epoch.set(epoch)

    def pick(self, values: Sequence[Any], modality: str, row: int, number: int) -> Any:
        """One of the values of a row, that of this `number` where all of them are taken in turn."""
        how = self.picks[modality]
        if len(values) == 1 or how == "first":
            return values[0]
        return values[number] if how == "all" else values[self.draw(len(values), modality, row)]

    def draw(self, size: int, *what: object) -> int:
        """A number below `size` that depends on seed, epoch and what it is for, and on nothing else."""
        words = "/".join(map(str, (self.seed, int(self._epoch), *what)))
        return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big") % size
