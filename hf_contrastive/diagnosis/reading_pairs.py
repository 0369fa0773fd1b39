"""What stands beside the plots of two clouds, see [`Reading`]."""

from collections.abc import Callable

from hf_contrastive.diagnosis.reading import Reading, is_open, otherwise
from hf_contrastive.diagnosis.rules import NO_RETRIEVAL, Facts


def _larger(part: str) -> Callable[[Facts], bool]:
    return lambda f: f["largest"] == part


COMPOSITION = Reading(
    name="composition",
    scope="pair",
    title="What the gap is made of",
    how=(
        "Parts of a bar add up to the squared distance between the clouds of {first} and {second}; the bar of halves is the "
        "same between two halves of one modality, which is what sampling makes."
    ),
    alt=(
        "{model}: squared distance {total:.4f}, of it centers {centers_share:.0%}, spread {spread_share:.0%}, spectrum "
        "{spectrum_share:.0%}, orientation {orientation_share:.0%}; between halves of one modality {control:.4f}."
    ),
    cases=(
        (
            lambda f: f["total"] <= 1.5 * f["control"],
            "The distance of {total:.3f} is no more than sampling can make ({control:.3f} between two halves): nothing to try.",
        ),
        (
            _larger("centers"),
            "The largest part of what is beyond sampling is the shift of the centers ({largest_share:.0%} of the distance): try a mean "
            "shift, or train with `clip_divergence`.",
        ),
        (
            _larger("spread"),
            "The largest part of what is beyond sampling is spread ({largest_share:.0%} of the distance): one modality is wider, so try "
            "whitening, or `align_uniform`, which spreads each by itself.",
        ),
        (
            _larger("spectrum"),
            "The largest part of what is beyond sampling is the spectrum ({largest_share:.0%} of the distance): variance is shared out "
            "otherwise, so try whitening, or `vicreg`.",
        ),
        (
            is_open,
            "The largest part of what is beyond sampling is orientation ({largest_share:.0%} of the distance), which no shift can turn: "
            "beside a mean shift for the centers, try training with `clip_divergence`, or a linear head.",
        ),
        (
            otherwise,
            "The largest part of what is beyond sampling is orientation ({largest_share:.0%} of a small distance): the centers are "
            "together, so a linear head or further training is what could turn the rest.",
        ),
    ),
)
GAP = Reading(
    name="gap",
    scope="pair",
    title="Along the gap",
    how=(
        "Each dot is a row, placed along the line from center to center (ringed) and along the main direction across it: clouds "
        "side by side are told apart by where they lie, clouds on each other are not."
    ),
    alt=(
        "{model}: scatter plot of {first} and {second} along the line between their centers, which are {gap:.3f} apart; a linear "
        "rule tells them apart with an accuracy of {separability:.3f}."
    ),
    cases=(
        (
            lambda f: is_open(f) and f["separability"] > 0.75,
            "The centers are {gap:.3f} apart where sampling makes {gap_floor:.3f}: try a mean shift where both modalities are "
            "ranked in one index, or `clip_divergence` in training.",
        ),
        (
            lambda f: f["separability"] > 0.75,
            "The centers coincide but a linear rule still tells the clouds apart ({separability:.3f} right): try whitening.",
        ),
        (
            is_open,
            "The centers are {gap:.3f} apart where sampling makes {gap_floor:.3f}, but the clouds overlap ({separability:.3f} told "
            "apart, chance 0.5): a mean shift closes what there is.",
        ),
        (
            otherwise,
            "The clouds lie on each other: a gap of {gap:.3f} where sampling makes {gap_floor:.3f}, and {separability:.3f} told "
            "apart (chance 0.5), so there is nothing to try.",
        ),
    ),
)
COSINES = Reading(
    name="cosines",
    scope="pair",
    title="Cosines",
    how=(
        "Matched rows should lie to the right of unmatched ones; matched rows after a permutation (dashed) are the control, "
        "which lies on the unmatched."
    ),
    alt=(
        "{model}: histogram of cosines; means are {matched:.3f} of matched rows, {unmatched:.3f} of unmatched ones, "
        "{permuted:.3f} after a permutation."
    ),
    cases=(
        (
            NO_RETRIEVAL.applies,
            "Matched rows ({matched:.3f}) are no nearer than permuted ones ({permuted:.3f}): check that row i of both shows "
            "the same, and that weights were loaded.",
        ),
        (
            lambda f: f["unmatched"] > 0.4,
            "Even unmatched rows have a mean cosine of {unmatched:.2f}, for they share a direction: try a mean shift, or a "
            "lower temperature in training.",
        ),
        (
            lambda f: f["unmatched"] < -0.1,
            "Unmatched rows have a mean cosine of {unmatched:.2f}, for the centers point apart: try a mean shift, or "
            "`clip_divergence` in training.",
        ),
        (
            lambda f: f["auc"] < 0.95,
            "A matched pair beats an unmatched one in {auc:.1%} of cases: try longer training, or larger batches.",
        ),
        (
            otherwise,
            "A matched pair beats an unmatched one in {auc:.1%} of cases, so that what R@1 lacks ({r1:.3f}) is lost to the few "
            "nearest of {items} things: try hard negatives.",
        ),
    ),
)
POTENTIAL = Reading(
    name="potential",
    scope="pair",
    title="Potential along the gap",
    how=(
        "What the loss makes of a row at each place of the circle through both centers (vertical lines), in units of the "
        "temperature: rows move downhill, and a hill between the centers keeps a gap open."
    ),
    alt=(
        "{model}: effective potential along the circle through both centers, which are {angle:.0f} degrees apart; the highest "
        "climb from one to the other is {barrier:.2f}, of {climber}."
    ),
    cases=(
        (
            lambda f: is_open(f) and f["separability"] <= 0.75,
            "The clouds overlap ({separability:.3f} told apart, chance 0.5), so that hills on this axis (up to {barrier:.2f}) hold "
            "nothing apart: nothing to try.",
        ),
        (
            lambda f: is_open(f) and f["barrier"] > 0.5,
            "{climber} must climb {barrier:.2f} to reach the other center: longer training will not close this gap, so try "
            "`clip_divergence`, which takes the hill away.",
        ),
        (
            is_open,
            "There is no hill between the centers (at most {barrier:.2f}), so what holds them apart is not on this axis: "
            "`clip_divergence` or a mean shift will find little resistance.",
        ),
        (otherwise, "There is no gap that a hill could keep open (highest climb {barrier:.2f}): nothing to try."),
    ),
)
