"""The retrieval measures of a run, each with its direction, its candidates and what chance makes of it."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from hf_contrastive.functional import RetrievalChance
from hf_contrastive.report.result import RunResult


PREFIX = "retrieval/"
_KEY = re.compile(
    rf"{PREFIX}(?P<queries>.+)_to_(?P<keys>.+)_(?P<measure>(?:recall|ndcg)@\d+|median_rank|mean_rank|mrr|map)"
)
_COUNT = "_candidates"
_SHOWN = {"median_rank": "median rank", "mean_rank": "mean rank", "mrr": "MRR", "map": "mAP"}


class Retrieval(NamedTuple):
    """
    What a key says.

    Args:
        key: The key.
        queries: Modality that searches.
        keys: Modality that is searched.
        measure: Such as `recall@1`.
    """

    key: str
    queries: str
    keys: str
    measure: str

    @property
    def direction(self) -> str:
        """The direction for people: `image to text`."""
        return f"{self.queries}_to_{self.keys}".replace("_", " ")

    @property
    def label(self) -> str:
        """The key for people: `image to text, R@1`."""
        shown = _SHOWN.get(self.measure, self.measure.replace("recall", "R").replace("ndcg", "nDCG"))
        return f"{self.direction}, {shown}"

    def candidates(self, result: RunResult) -> int:
        """How many candidates each query has: rows, or less where several rows show the same."""
        return int(result.metrics.get(f"{PREFIX}{self.keys}{_COUNT}", result.test_rows))

    def chance(self, result: RunResult) -> float | None:
        """The measure of candidates in random order; None where a run with ids was measured before that was reported."""
        known = result.metrics.get(f"{self.key}_chance")
        if known is not None or f"{PREFIX}{self.keys}{_COUNT}" in result.metrics or not result.test_rows:
            return known
        return RetrievalChance(result.test_rows, torch.ones(1, dtype=torch.long)).named(self.measure)

    def standard_error(self, result: RunResult) -> float | None:
        """That of a recall as a share of its queries; None where queries share ids, and are no draws of their own."""
        back = Retrieval(
            f"{PREFIX}{self.keys}_to_{self.queries}_{self.measure}", self.keys, self.queries, self.measure
        )
        queries, guess = max(back.candidates(result), 1), back.chance(result)
        # What a guess finds on the way back where each query has an id of its own.
        alone = RetrievalChance(queries, torch.ones(1, dtype=torch.long)).named(self.measure)
        if guess is None or not math.isclose(guess, alone, rel_tol=1e-6):
            return None
        share = result.metrics[self.key]
        return math.sqrt(max(share * (1 - share), 0.0) / queries)


def read_retrieval(key: str) -> Retrieval | None:
    """The measure of a key; None for counts, for what a measure is by chance, and for what is no retrieval.

    >>> read_retrieval("retrieval/image_to_text_recall@1").direction
    'image to text'
    """
    found = _KEY.fullmatch(key)
    return None if found is None else Retrieval(key, found["queries"], found["keys"], found["measure"])


def recalls_at_1(result: RunResult) -> list[Retrieval]:
    """R@1 of a run in every direction."""
    found = (read_retrieval(key) for key in result.metrics)
    return [retrieval for retrieval in found if retrieval is not None and retrieval.measure == "recall@1"]


def read_count(key: str) -> str | None:
    """The modality whose candidates a key counts."""
    name = key.removeprefix(PREFIX)
    return name.removesuffix(_COUNT) if key.startswith(PREFIX) and name.endswith(_COUNT) else None


def shown_chance(value: float, measure: str) -> str:
    """Chance for people: 0.00033 of recall, 500.5 of a rank."""
    return f"{value:,.1f}" if measure.endswith("_rank") else f"{value:.2g}"


def shares_ids(result: RunResult) -> bool:
    """Whether several rows of the test pool match each other."""
    return any(retrieval.standard_error(result) is None for retrieval in recalls_at_1(result))


def pools(retrievals: Sequence[Retrieval], result: RunResult) -> tuple[str, str]:
    """How many candidates there are and what chance is, for people: of several directions the least and the most."""
    counts = sorted(retrieval.candidates(result) for retrieval in retrievals)
    chances = sorted(chance for retrieval in retrievals if (chance := retrieval.chance(result)) is not None)
    shown = [shown_chance(chance, retrievals[0].measure) for chance in chances]
    return _span([f"{count:,}" for count in counts]), _span(shown)


def _span(values: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys([values[0], values[-1]])) if values else ""
