"""Embeddings of past steps in a batch, which remember whether a loss has asked for them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class QueuedRows(NamedTuple):
    """Embeddings of past steps.

    Args:
        embeds: Unit-norm embeddings of one modality, without a graph.
        ids: What each row shows, where that is known.
    """

    embeds: Float[Tensor, "n d"]
    ids: Int[Tensor, "n"] | None


class QueueRows(dict[str, QueuedRows]):
    """Queued rows by modality that remember whether a loss has asked for any."""

    def __init__(self, rows: Mapping[str, QueuedRows] | None = None) -> None:
        super().__init__(rows or {})
        self._askers: list[object] = []

    @property
    def asked(self) -> bool:
        """Whether anybody has asked for rows of a modality, of these or of what [`map`] made of them."""
        return bool(self._askers)

    def __contains__(self, modality: object) -> bool:
        self._askers.append(modality)
        return super().__contains__(modality)

    def __getitem__(self, modality: str) -> QueuedRows:
        self._askers.append(modality)
        return super().__getitem__(modality)

    def __iter__(self) -> Iterator[str]:
        self._askers.append(None)
        return super().__iter__()

    def __len__(self) -> int:
        self._askers.append(None)
        return super().__len__()

    def get(self, modality: str, default: Any = None) -> Any:
        """Rows of a modality, or `default`."""
        self._askers.append(modality)
        return super().get(modality, default)

    def plain(self) -> dict[str, QueuedRows]:
        """The rows, for who does not ask as a loss does."""
        return dict(dict.items(self))

    def map(self, function: Callable[[Tensor], Tensor]) -> "QueueRows":
        """The same rows with embeddings changed by `function`. Who asks for them has asked for these."""
        changed = QueueRows({m: rows._replace(embeds=function(rows.embeds)) for m, rows in self.plain().items()})
        changed._askers = self._askers
        return changed
