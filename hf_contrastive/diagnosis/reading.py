"""What stands beside each plot: how to read it, and what its values suggest to try, a sentence each."""

from collections.abc import Callable
from dataclasses import dataclass

from hf_contrastive.diagnosis.rules import Facts


Case = tuple[Callable[[Facts], bool], str]


def otherwise(facts: Facts) -> bool:
    """The last case of a reading, which is always true."""
    return True


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The words of a plot. All but the title are format strings of facts.

    Args:
        name: Name of the plot.
        scope: `"model"` or `"pair"`: which facts it reads, those of [`model_facts`] or of [`plot_facts`].
        title: Its heading.
        how: How to read it, the same for every model.
        alt: What it shows, for those who do not see it.
        cases: What to try: the sentence of the first case that is true.
    """

    name: str
    scope: str
    title: str
    how: str
    alt: str
    cases: tuple[Case, ...]

    def advice(self, facts: Facts) -> str:
        """What to try."""
        sentence = next(says for applies, says in self.cases if applies(facts)).format(**facts)
        return sentence[:1].upper() + sentence[1:]


def is_open(facts: Facts) -> bool:
    """Whether the centers are further apart than sampling makes."""
    return bool(facts["gap"] > 2 * facts["gap_floor"])


CLOUDS = Reading(
    name="clouds",
    scope="model",
    title="The clouds",
    how=(
        "Each dot is a row, on the two directions along which all modalities together vary most; thin lines join some "
        "matched rows, and rings mark the centers."
    ),
    alt=(
        "{model}: scatter plot of the rows on two directions with {share:.0%} of the variance; the centers of {first} and "
        "{second} are {gap:.3f} apart."
    ),
    cases=(
        (
            lambda f: is_open(f) and f["separability"] > 0.75 and f["seen"] > 0.9,
            "The {gap:.3f} between the centers of {first} and {second} are all in the picture, whose directions hold {share:.0%} of "
            "the variance: try a mean shift.",
        ),
        (
            lambda f: is_open(f) and f["separability"] > 0.75,
            "The {gap:.3f} between the centers of {first} and {second} are partly hidden, for these directions show {seen:.0%} of it: "
            "look along the gap, and try a mean shift.",
        ),
        (
            lambda f: f["separability"] > 0.75,
            "The centers of {first} and {second} coincide but a linear rule tells the clouds apart ({separability:.3f} right): try "
            "whitening.",
        ),
        (
            is_open,
            "The centers of {first} and {second} are {gap:.3f} apart (sampling makes {gap_floor:.3f}), but the clouds overlap "
            "({separability:.3f} told apart, chance 0.5): a mean shift closes what there is.",
        ),
        (
            lambda f: f["share"] < 0.2,
            "These directions hold {share:.0%} of the variance only, so trust the gap of {gap:.3f} (sampling makes "
            "{gap_floor:.3f}) more than the picture; there is nothing to try here.",
        ),
        (
            otherwise,
            "The clouds lie on each other (gap {gap:.3f}, sampling makes {gap_floor:.3f}): nothing to try here.",
        ),
    ),
)
SPECTRA = Reading(
    name="spectra",
    scope="model",
    title="Spectra",
    how=(
        "Share of variance by direction, largest first; the dashed line is a cloud that is round, of as many rows, and the "
        "nearer to it the more directions are used."
    ),
    alt=(
        "{model}: share of variance by direction on a log axis; effective rank {lowest_rank:.1f} of {lowest} and "
        "{highest_rank:.1f} of {highest}, {isotropic_rank:.1f} of a round cloud."
    ),
    cases=(
        (
            lambda f: f["rows"] < 2 * f["width"],
            "With {rows} rows of width {width} this is rough: try more rows (`--num_rows`).",
        ),
        (
            lambda f: f["lowest_rank"] < 0.15 * f["isotropic_rank"],
            "{lowest} uses {lowest_rank:.1f} directions where a round cloud shows {isotropic_rank:.0f}: try a smaller width, or "
            "`vicreg` or `barlow_twins` in the loss.",
        ),
        (
            lambda f: f["highest_rank"] > 1.5 * f["lowest_rank"],
            "{highest} uses {highest_rank:.1f} directions and {lowest} {lowest_rank:.1f}: try whitening each.",
        ),
        (
            otherwise,
            "{lowest} uses {lowest_rank:.1f} directions where a round cloud shows {isotropic_rank:.1f}: nothing to try here.",
        ),
    ),
)
NORMS = Reading(
    name="norms",
    scope="model",
    title="Lengths against a Gaussian",
    how=(
        "Quantiles of the rows' lengths against those of a round Gaussian cloud of the same width; on the diagonal they are "
        "alike, and a steeper line is a wider spread."
    ),
    alt=(
        "{model}: QQ plot of lengths; those of {odd} vary by {variation:.3f} of their mean, a Gaussian's by "
        "{gaussian_variation:.3f}."
    ),
    cases=(
        (
            lambda f: f["variation_ratio"] < 1e-3,
            "All rows of {odd} have one length, as rows do that were normalized: to see lengths, try embeddings as the model "
            "gives them.",
        ),
        (
            lambda f: f["variation_ratio"] > 1.5,
            "Lengths of {odd} vary {variation_ratio:.1f} times as much as a Gaussian's: search by cosine, not by inner "
            "product, and look at the longest and shortest rows.",
        ),
        (
            lambda f: f["variation_ratio"] < 0.67,
            "Lengths of {odd} vary {variation_ratio:.2g} times as much as a Gaussian's, a thin shell: cosine and inner product "
            "rank nearly alike, and there is nothing to try.",
        ),
        (
            otherwise,
            "Lengths of {odd} vary about as much as a Gaussian's ({variation_ratio:.1f} times): nothing to try.",
        ),
    ),
)
COORDINATES = Reading(
    name="coordinates",
    scope="model",
    title="Coordinates against a Gaussian",
    how=(
        "Quantiles of coordinates of unit rows, standardized, against N(0, 1): lines are the mean of all coordinates, bands "
        "nine in ten of them, and ends off the diagonal are tails."
    ),
    alt="{model}: QQ plot of coordinates; the top quantile of {heavy} is {tail:.2f}, a Gaussian's {gaussian_tail:.2f}.",
    cases=(
        (
            lambda f: f["tail"] > f["gaussian_tail"] + 0.2,
            "Tails of {heavy} are heavy ({tail:.2f} where a Gaussian has {gaussian_tail:.2f}): look for outliers or clusters of "
            "copies, and try `sliced_gaussian` in the loss.",
        ),
        (
            lambda f: f["tail"] < f["gaussian_tail"] - 0.2,
            "Tails of {heavy} are light ({tail:.2f} where a Gaussian has {gaussian_tail:.2f}), as where few directions are used: "
            "try `sliced_gaussian` in the loss if another model needs Gaussian inputs.",
        ),
        (otherwise, "Tails are a Gaussian's ({tail:.2f} against {gaussian_tail:.2f}): nothing to try."),
    ),
)
