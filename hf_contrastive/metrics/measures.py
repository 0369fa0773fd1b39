"""The names of all measures, and what each is to be read beside.

One scheme serves logs, evaluations, cards and `evaluate` modules:

- `geometry/<measure>_<modality>` for one modality, `geometry/<measure>_<first>_<second>` for a pair in the order of the
  alphabet, `geometry/<measure>_<queries>_to_<keys>` for a direction; `retrieval/<queries>_to_<keys>_<measure>`.
- What a value is read beside has the measure's name and a word for what it is, then the modalities:
  `geometry/modality_gap_floor_image_text`. A `floor` is what sampling alone makes of the measure, or the lowest value that
  the width allows; `isotropic` is what as many evenly spread rows would show; `chance` and `null_std` are of rows that are
  dealt at random. That of retrieval stands at the end, `retrieval/image_to_text_recall@1_chance`. References that depend on
  nothing stand in [`MEASURES`], not in logs.
- The values of `evaluate` modules have these names without the modalities: `modality_gap`, `modality_gap_floor`.
- The Trainer puts `eval_` or `test_` in front, and its trackers make folders of that: `train/geometry/...` and
  `eval/geometry/...`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hf_contrastive.functional import expected_gaussianity


PREFIX = "geometry/"


class Measure(NamedTuple):
    """
    A measure and how tables show it.

    Args:
        name: What its keys begin with.
        group: Heading in tables.
        reference: Name of the value it is read beside, the value itself if that is always the same, or None.
        digits: Decimals in tables.
        shared: Whether one reference serves all modalities.
        headline: Whether it stands in short tables.
    """

    name: str
    group: str
    reference: str | float | None = None
    digits: int = 3
    shared: bool = False
    headline: bool = False


_GAUSSIAN = expected_gaussianity(2)
PAIRS, GAP, SPREAD, SHAPE, HUBS = "matched pairs", "gap between modalities", "spread", "shape", "hubs"

MEASURES = (
    Measure("alignment", PAIRS, headline=True),
    Measure("matched_cosine_mean", PAIRS, "unmatched_cosine_mean", headline=True),
    Measure("matched_cosine_std", PAIRS, "unmatched_cosine_std"),
    Measure("d_prime", PAIRS, 0.0, digits=2),
    Measure("modality_gap", GAP, "modality_gap_floor", headline=True),
    Measure("centroid_gap_squared", GAP, 0.0),
    Measure("gap_variance_share", GAP, "gap_variance_share_floor"),
    Measure("centroid_cosine", GAP),
    Measure("mean_row_norm", GAP, "mean_row_norm_floor"),
    Measure("separability", GAP, 0.5, headline=True),
    Measure("separability_standard_error", GAP),
    Measure("frechet_distance", GAP, "frechet_distance_floor"),
    Measure("energy_distance", GAP, "energy_distance_null_std"),
    Measure("smoothed_divergence", GAP, "smoothed_divergence_floor"),
    Measure("uniformity", SPREAD, "uniformity_floor", digits=2, shared=True, headline=True),
    Measure("uniformity_ratio", SPREAD, 1.0),
    Measure("effective_rank", SPREAD, "effective_rank_isotropic", digits=1),
    Measure("participation_ratio", SPREAD, "participation_ratio_isotropic", digits=1),
    Measure("top_share", SPREAD, "top_share_isotropic"),
    Measure("condition_number", SPREAD, "condition_number_isotropic", digits=1),
    Measure("anderson_darling", SHAPE, float(_GAUSSIAN.anderson_darling), digits=2),
    Measure("epps_pulley", SHAPE, float(_GAUSSIAN.epps_pulley), digits=2),
    Measure("hubness_skewness", HUBS, "hubness_skewness_chance", digits=2),
    Measure("hubness_antihubs", HUBS, "hubness_antihubs_chance"),
)

# What a reference that is always the same is called.
WORDS = {"separability": "chance", "uniformity_ratio": "even", "centroid_gap_squared": "none", "d_prime": "none"}
WORDS |= {"anderson_darling": "Gaussian", "epps_pulley": "Gaussian"}
# Rows of a modality that stood for all in measures of every pair of rows; rows that were tested for their shape.
COUNTS = ("quadratic_rows", "gaussianity_rows")


class Reading(NamedTuple):
    """
    What a key says.

    Args:
        key: The key.
        measure: The measure.
        about: Its modalities as the key has them, `image_text`.
        reference: Key of what it is read beside, None if that is no value of its own.
    """

    key: str
    measure: Measure
    about: str
    reference: str | None

    @property
    def label(self) -> str:
        """The key for people: `modality gap image text`."""
        return f"{self.measure.name}_{self.about}".replace("_", " ")

    @property
    def kind(self) -> str | None:
        """What a table has in parentheses behind the value, or beside the label where it is always the same."""
        name = self.measure.reference
        if name is None:
            return None
        if not isinstance(name, str):
            return f"{WORDS.get(self.measure.name, 'reference')} {name:.3g}"
        if name.startswith("unmatched"):
            return "unmatched"
        return "deviation of chance" if name.endswith("_null_std") else name.rpartition("_")[2]

    def cell(self, metrics: Mapping[str, float]) -> str:
        """Value and reference among `metrics`, as `0.250 (0.125)`; a dash where there is none."""
        if self.key not in metrics:
            return "-"
        digits = self.measure.digits
        value = f"{metrics[self.key]:.{digits}f}"
        if self.reference is None or self.reference not in metrics:
            return value
        return f"{value} ({metrics[self.reference]:.{digits}f})"


def by_group(readings: Iterable[Reading]) -> list[Reading]:
    """In the order of [`MEASURES`], each once."""
    places = {measure.name: place for place, measure in enumerate(MEASURES)}
    return sorted(dict.fromkeys(readings), key=lambda reading: places[reading.measure.name])


def read_key(key: str) -> Reading | None:
    """The measure of a key, without `eval_`; None for references, counts and what is no geometry.

    >>> read_key("geometry/modality_gap_image_text").reference
    'geometry/modality_gap_floor_image_text'
    """
    name = key.removeprefix(PREFIX)
    if name == key or _longest(name, COUNTS) or _longest(name, _REFERENCES) or not (found := _longest(name, _BY_NAME)):
        return None
    measure, about = _BY_NAME[found], name[len(found) + 1 :]
    if not isinstance(measure.reference, str):
        return Reading(key, measure, about, None)
    return Reading(key, measure, about, PREFIX + measure.reference + ("" if measure.shared else f"_{about}"))


_BY_NAME = {measure.name: measure for measure in MEASURES}
_REFERENCES = {measure.reference: measure for measure in MEASURES if isinstance(measure.reference, str)}


def _longest(name: str, known: Iterable[str]) -> str | None:
    """The longest of the known names that `name` is, or begins with before an underscore."""
    fits = [one for one in known if name == one or name.startswith(f"{one}_")]
    return max(fits, key=len, default=None)
