"""What a diagnosis found: every number and array that a page, a table or a picture needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence on the geometry, and what to do.

    Args:
        rule: Name of the rule that found it, see [`hf_contrastive.diagnosis.rules`].
        severity: `"problem"`, `"warning"`, `"note"` or `"good"`.
        about: Modality, or pair of modalities joined by an underscore.
        says: What is the case, with the value and what it is compared with.
        advice: What to try; empty where all is well.
    """

    rule: str
    severity: str
    about: str
    says: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What the distance between two modalities is made of. Each group of parts adds up exactly.

    Args:
        matched: Parts of the mean squared distance of matched rows, see [`functional.pair_distance`]:
            `total = centers + spread_<first> + spread_<second> - shared`.
        clouds: Parts of the squared distance of the clouds, see [`functional.cloud_distance`]:
            `total = centers + spread + spectrum + orientation`.
        clouds_control: The same parts between two halves of one modality (mean of both): what sampling makes of them.
            The halves have half of the rows, so that it is a high estimate.
        subspace_overlap: By number k of principal directions, the share of them that both modalities have in common, see
            [`functional.subspace_overlap`]; k / width is chance.
    """

    matched: dict[str, float]
    clouds: dict[str, float]
    clouds_control: dict[str, float]
    subspace_overlap: dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """What became of the measured rows.

    Args:
        name: `"none"`, `"mean_shift"`, `"whitening"` or `"linear_head"`.
        label: What tables call it, with its setting.
        metrics: Measures by the names of [`geometry_report`] and [`retrieval_report`]; none where it could not be done, as
            `note` then says.
        settings: What it was done with.
        note: How to read it.
    """

    name: str
    label: str
    metrics: dict[str, float]
    settings: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Temperatures:
    """The contrastive loss at several temperatures, of which cosines and so retrieval know nothing.

    Args:
        temperatures: Where the loss was measured, ascending.
        loss: Symmetric InfoNCE of the measured rows among each other. It depends on their number.
        perplexity: Candidates that the softmax of a query weighs, mean of both directions, from 1 to their number.
        chance: Loss where all candidates look alike.
        best: Temperature with the least loss on the rows that were fitted on.
        loss_at_best: Loss of the measured rows there.
        own: The model's temperature, where it has one.
        loss_at_own: Loss of the measured rows there.
    """

    temperatures: tuple[float, ...]
    loss: tuple[float, ...]
    perplexity: tuple[float, ...]
    chance: float
    best: float
    loss_at_best: float
    own: float | None
    loss_at_own: float | None


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Interventions on one pair of modalities: fitted on one half of the items, measured on the other.

    Args:
        fitted_rows: Rows that maps, temperature and heads were fitted on.
        measured_rows: Rows that all numbers are of; none shows what a fitted row shows.
        measured_items: Number of different things that they show.
        interventions: The first is `"none"`, the rows as they are.
        shift_curve: Measures after moving both modalities along the gap, by fraction from -1 to 1: 0 stays, at 0.5 the
            centers meet, at 1 they have changed places. Empty where a row would lose its direction.
        temperatures: Temperature, which changes the loss and no ranking.
    """

    fitted_rows: int
    measured_rows: int
    measured_items: int
    interventions: tuple[Intervention, ...]
    shift_curve: dict[float, dict[str, float]]
    temperatures: Temperatures


@dataclass(frozen=True, kw_only=True)
class CosineHistogram:
    """Densities of cosines between two modalities, of equal bins.

    Args:
        edges: Ends of the bins, one more than there are bins.
        matched: Density of matched rows.
        unmatched: Density of rows that show other things.
        permuted: Density of matched rows after a permutation of the items, the control: one cosine per row.
        means: Mean cosine of each of the three.
    """

    edges: tuple[float, ...]
    matched: tuple[float, ...]
    unmatched: tuple[float, ...]
    permuted: tuple[float, ...]
    means: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class PairDiagnosis:
    """Two modalities: what parts them, what can be done, how their cosines are spread."""

    first: str
    second: str
    composition: Composition
    trials: Trials
    cosines: CosineHistogram


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Rows of all modalities on the first two principal directions of all of them together.

    Args:
        rows: Rows of the diagnosis that are drawn, the same of every modality.
        points: Their places, by modality.
        centers: Places of the centers of all rows, by modality.
        shares: Share of the joint variance of each direction.
    """

    rows: Int[Tensor, "p"]
    points: dict[str, Float[Tensor, "p 2"]]
    centers: dict[str, Float[Tensor, "2"]]
    shares: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that [`diagnose`] found of one set of embeddings, and of the set that it was compared with.

    Args:
        name: The model or the files.
        dataset: Where the rows come from, where that is known.
        rows: Number of rows.
        available: Rows that there were, of which `rows` were drawn, where that is known.
        items: Number of different things that they show.
        width: Embedding width.
        modalities: In alphabetical order.
        seed: Seed of all that was drawn.
        logit_scale: Inverse temperature of the model, where there is one.
        metrics: All measures of all rows, by the names of logs: `geometry/...` and `retrieval/...`.
        pairs: Every two modalities.
        spectra: Eigenvalues of each modality's covariance, largest first.
        projection: The clouds in two dimensions.
        findings: Most severe first.
        embeds: The embeddings, of the lengths that the model gives them. Not in the JSON.
        ids: What each row shows. Not in the JSON.
        compared: What was measured of the other model on the same rows.
    """

    name: str
    dataset: str | None
    rows: int
    items: int
    width: int
    modalities: tuple[str, ...]
    seed: int
    logit_scale: float | None
    metrics: dict[str, float]
    pairs: tuple[PairDiagnosis, ...]
    spectra: dict[str, tuple[float, ...]]
    projection: Projection
    findings: tuple[Finding, ...]
    embeds: dict[str, Float[Tensor, "n d"]] = field(repr=False, metadata={"json": False})
    ids: Int[Tensor, "n"] | None = field(default=None, repr=False, metadata={"json": False})
    compared: "Diagnosis | None" = field(default=None, repr=False)
    available: int | None = None

    @property
    def all(self) -> tuple["Diagnosis", ...]:
        """This one and what it is compared with: the columns of a table."""
        return (self,) if self.compared is None else (self, *self.compared.all)

    @property
    def about(self) -> str:
        """How many rows of what were measured."""
        drawn = self.available is not None and self.available > self.rows
        rows = f"{self.rows} of {self.available} rows" if drawn else f"{self.rows} rows"
        return rows + (f" of the {self.dataset}" if self.dataset else "")

    def pair(self, first: str, second: str) -> PairDiagnosis:
        """What was found of two modalities, in whatever order they are named."""
        for found in self.pairs:
            if {found.first, found.second} == {first, second}:
                return found
        raise ValueError(f"There is no pair of {first!r} and {second!r} among the modalities {list(self.modalities)}.")

    def to_dict(self) -> dict[str, Any]:
        """All numbers and arrays for plots as plain Python, for JSON."""
        plain: dict[str, Any] = _plain(self)
        return plain


def write_json(diagnosis: Diagnosis, path: str | Path) -> None:
    """Write all numbers of a diagnosis."""
    text = json.dumps(diagnosis.to_dict(), indent=1, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.metadata.get("json", True)]
        return {name: _plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(x) for x in value]
    return value.tolist() if isinstance(value, Tensor) else value
