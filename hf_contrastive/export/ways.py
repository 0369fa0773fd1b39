"""In which ways a model can be written for other libraries, of all its modalities or of some."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """A format that can express a model.

    Args:
        format: One of `FORMATS`.
        modalities: Those that it is of, None for all that were asked for.
    """

    format: str
    modalities: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return repr(self.format) + (
            "" if self.modalities is None else f" of {' and '.join(map(repr, self.modalities))}"
        )

    @property
    def options(self) -> list[str]:
        """The options of `hf-contrastive export` that ask for it."""
        return ["--format", self.format, *([] if self.modalities is None else ["--modalities", *self.modalities])]


def told(kinds: Mapping[str, str]) -> str:
    """Modalities and what they read, in words."""
    return ", ".join(name if name == kind else f"{name!r} ({kind})" for name, kind in kinds.items())
