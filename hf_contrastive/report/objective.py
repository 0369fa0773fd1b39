"""What a card says of the objective: its options, its formula, whom to cite."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from hf_contrastive.losses import ContrastiveLoss, LossInfo, inner_losses, list_losses


# Losses that compare no row with another item's.
WITHOUT_NEGATIVES = {"barlow_twins", "gaussian_kl", "sliced_gaussian", "vicreg"}
# Losses that do not read the temperature.
WITHOUT_SCALE = {"align_uniform", "barlow_twins", "cauchy_schwarz", "hoelder_divergence", "sliced_gaussian"}
WITHOUT_SCALE |= {"uni_align", "vicreg"}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss as a card shows it.

    Args:
        shown: The loss with its options.
        infos: What is registered of it and, if it is made of others, of these; empty for a loss of the author's own.
    """

    shown: str
    infos: tuple[LossInfo, ...]

    @classmethod
    def of(cls, loss: ContrastiveLoss) -> "Objective":
        """The objective that a loss is, with the losses inside it."""
        # A class may have several names, of which the first is told.
        found = [next((info for info in list_losses() if info.cls is type(each)), None) for each in _with_inner(loss)]
        infos = {info.name: info for info in found if info is not None}
        return cls(shown=_without_addresses(repr(loss), type(loss)), infos=tuple(infos.values()))

    @classmethod
    def read(cls, shown: str) -> "Objective":
        """The objective of a finished run, of which its `repr` alone is left."""
        name = shown.partition("(")[0]
        info = next((info for info in list_losses() if info.cls.__name__ == name), None)
        return cls(shown=_plain(shown), infos=() if info is None else (info,))

    @property
    def name(self) -> str:
        """Registered name of the loss, or `custom`."""
        return self.infos[0].name if self.infos else "custom"

    @property
    def told(self) -> str:
        """Its name as Markdown, with the paper, and the names of what it is made of."""
        if not self.infos:
            return f"`{self.shown}`"
        first, *parts = [
            f"[`{info.name}`](https://huggingface.co/papers/{info.paper})" if info.paper else f"`{info.name}`"
            for info in self.infos
        ]
        return f"{first} of {' and '.join(parts)}" if parts else first

    @property
    def is_known(self) -> bool:
        """Whether all of it is this package's own."""
        return bool(self.infos) and all(info.cls.__module__.startswith("hf_contrastive.") for info in self.infos)

    @property
    def papers(self) -> list[str]:
        """Papers to cite, the loss's own first."""
        return list(dict.fromkeys(info.paper for info in self.infos if info.paper))

    @property
    def has_negatives(self) -> bool:
        """Whether rows are compared with those of other items, as far as it is known."""
        return self._has_other_than(WITHOUT_NEGATIVES)

    @property
    def has_scale(self) -> bool:
        """Whether the temperature matters, as far as it is known."""
        return self._has_other_than(WITHOUT_SCALE)

    def _has_other_than(self, names: set[str]) -> bool:
        own = {info.name for info in self.infos} - {"matryoshka", "weighted_sum"}
        return not own or bool(own - names)


def bibtex(paper: str) -> str:
    """The BibTeX entry of a paper: the one in `templates/papers.bib`, or what its number alone tells.

    Args:
        paper: Identifier on https://huggingface.co/papers.
    """
    for entry in bibliography():
        if f"eprint = {{{paper}}}" in entry:
            return entry
    return f"@misc{{arxiv:{paper},\n  eprint = {{{paper}}},\n  archivePrefix = {{arXiv}},\n}}"


def bibliography() -> list[str]:
    """The entries of `templates/papers.bib`."""
    text = files("hf_contrastive").joinpath("templates/papers.bib").read_text(encoding="utf-8")
    return [entry.strip() for entry in re.split(r"\n(?=@)", text)]


def _with_inner(loss: ContrastiveLoss) -> Iterator[ContrastiveLoss]:
    yield loss
    for inner in inner_losses(loss):
        yield from _with_inner(inner)


def _without_addresses(shown: str, kind: type) -> str:
    return _plain(kind.__qualname__ if " at 0x" in shown else shown)


def _plain(shown: str) -> str:
    # How much memory a loss may take changes nothing of what it is.
    shown = re.sub(r"keep_bytes=\d+(, )?", "", shown).replace(", )", ")")
    return re.sub(r"[\w.]*<locals>\.", "", shown)
