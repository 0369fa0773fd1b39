"""Rules that compare a value with its reference, each with a sentence and what to try."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


SEVERITIES = ("problem", "warning", "note", "good")
# A difference of shares counts from so many standard errors, which are those of independent samples: on the same rows the
# real error is smaller.
ERRORS = 2.0

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A sentence, and when it is true.

    Args:
        name: Name of the rule.
        severity: How bad it is, see [`Finding`].
        scope: `"pair"` or `"modality"`: which facts it reads, those of [`pair_facts`] or of [`modality_facts`].
        applies: Whether it is the case.
        says: The sentence, a format string of the facts.
        advice: What to try, likewise.
    """

    name: str
    severity: str
    scope: str
    applies: Callable[[Facts], bool]
    says: str
    advice: str = ""


def is_collapsed(uniformity: float, floor: float) -> bool:
    """Whether rows cover little of the sphere, where the floor is the best there is."""
    return uniformity > 0.25 * floor


RULES = (
    Rule(
        name="no_retrieval",
        severity="problem",
        scope="pair",
        applies=lambda f: (
            f["r1"] < f["chance"] + ERRORS * f["r1_error"]
            and f["matched"] <= f["permuted"] + max(0.01, ERRORS * f["cosine_error"])
        ),
        says=(
            "Matched {first} and {second} are no nearer than permuted ones (cosine {matched:.3f} against {permuted:.3f}), and "
            "R@1 is {r1:.3f}, where chance is {chance:.3g}."
        ),
        advice="Check that row i of both is the same example, that columns are the right ones, and that weights were loaded.",
    ),
    Rule(
        name="open_gap",
        severity="warning",
        scope="pair",
        applies=lambda f: f["gap"] > 2 * f["gap_floor"] and f["separability"] > 0.75,
        says=(
            "The centers of {first} and {second} are {gap:.3f} apart, {gap_ratio:.1f} times the {gap_floor:.3f} that sampling "
            "makes, and a linear rule tells the modalities apart with an accuracy of {separability:.3f} (chance 0.5). Of the "
            "distance between the clouds, {centers_share:.0%} is the shift of the centers, {spread_share:.0%} spread, "
            "{spectrum_share:.0%} spectrum and {orientation_share:.0%} orientation."
        ),
        advice=(
            "Where both modalities are ranked in one index, close it: without training by a mean shift, in training by the "
            "loss `clip_divergence`. To rank one of them by queries of the other, it need not be closed."
        ),
    ),
    Rule(
        name="small_gap",
        severity="note",
        scope="pair",
        applies=lambda f: f["gap"] > 2 * f["gap_floor"] and f["separability"] <= 0.75,
        says=(
            "The centers of {first} and {second} are {gap:.3f} apart, {gap_ratio:.1f} times the {gap_floor:.3f} that sampling "
            "makes, but the clouds overlap: a linear rule tells them apart with an accuracy of {separability:.3f} (chance 0.5)."
        ),
        advice="Such a gap costs little; a mean shift closes it, where both modalities are ranked in one index.",
    ),
    Rule(
        name="other_shape",
        severity="note",
        scope="pair",
        applies=lambda f: f["gap"] <= 2 * f["gap_floor"] and f["separability"] > 0.75,
        says=(
            "The centers of {first} and {second} coincide ({gap:.3f}, sampling makes {gap_floor:.3f}), yet a linear rule tells "
            "them apart with an accuracy of {separability:.3f}."
        ),
        advice="The clouds differ in more than their centers: look at spread, spectrum and orientation, and try whitening.",
    ),
    Rule(
        name="closed_gap",
        severity="good",
        scope="pair",
        applies=lambda f: f["gap"] <= 2 * f["gap_floor"] and f["separability"] <= 0.75 and not f["collapsed"],
        says=(
            "The gap between {first} and {second} is closed: {gap:.3f}, where sampling makes {gap_floor:.3f}; a linear rule "
            "tells them apart with an accuracy of {separability:.3f} (chance 0.5)."
        ),
    ),
    Rule(
        name="shift_helps",
        severity="note",
        scope="pair",
        applies=lambda f: f["r1_mean_shift"] - f["r1_none"] > ERRORS * f["trial_error"],
        says="A mean shift lifts R@1 between {first} and {second} from {r1_none:.3f} to {r1_mean_shift:.3f} on unseen rows.",
        advice="Subtract each modality's center, fitted on rows of the same kind, before you build an index.",
    ),
    Rule(
        name="shift_is_free",
        severity="note",
        scope="pair",
        applies=lambda f: (
            f["gap"] > 2 * f["gap_floor"] and abs(f["r1_mean_shift"] - f["r1_none"]) <= ERRORS * f["trial_error"]
        ),
        says=(
            "A mean shift takes the gap between {first} and {second} from {gap_none:.3f} to {gap_mean_shift:.3f} on unseen rows "
            "(sampling makes {trial_floor:.3f}) and leaves R@1 what it was, within its error: {r1_none:.3f} before, {r1_mean_shift:.3f} after."
        ),
        advice="Subtract each modality's center where both are ranked in one index.",
    ),
    Rule(
        name="shift_costs",
        severity="note",
        scope="pair",
        applies=lambda f: f["r1_none"] - f["r1_mean_shift"] > ERRORS * f["trial_error"],
        says="A mean shift lowers R@1 between {first} and {second} from {r1_none:.3f} to {r1_mean_shift:.3f} on unseen rows.",
        advice="Do not center these embeddings for retrieval across modalities: their centers carry what ranks them.",
    ),
    Rule(
        name="whitening_helps",
        severity="note",
        scope="pair",
        applies=lambda f: f["r1_whitening"] - f["r1_none"] > ERRORS * f["trial_error"],
        says="Whitening lifts R@1 between {first} and {second} from {r1_none:.3f} to {r1_whitening:.3f} on unseen rows.",
        advice="Whiten each modality before you build an index, or train with a term that spreads variance (`vicreg`).",
    ),
    Rule(
        name="divergence_closes",
        severity="note",
        scope="pair",
        applies=lambda f: (
            f["gap"] > 2 * f["gap_floor"]
            and f["head_gap"] < 0.7 * f["head_gap_clip"]
            and f["head_r1"] > f["head_r1_clip"] - ERRORS * f["trial_error"]
        ),
        says=(
            "A linear head trained with `clip_divergence` at weight {head_weight:g} has a gap of {head_gap:.3f} between {first} "
            "and {second}, where CLIP's loss alone leaves {head_gap_clip:.3f}, at an R@1 of {head_r1:.3f} instead of "
            "{head_r1_clip:.3f}."
        ),
        advice="Train with `--loss clip_divergence`, whose weight rises late in training; start with its default.",
    ),
    Rule(
        name="temperature_off",
        severity="note",
        scope="pair",
        # Where none does better than chance, the best is the highest that was tried, and nothing to be advised.
        applies=lambda f: (
            f["own"] is not None
            and f["loss_at_own"] - f["loss_at_best"] > 0.1
            and f["loss_at_best"] < f["loss_of_chance"] - 0.05
        ),
        says=(
            "At the model's temperature of {own:.4f} the contrastive loss of these rows is {loss_at_own:.3f}; at {best:.4f} it "
            "is {loss_at_best:.3f}. Ranks are the same at both."
        ),
        advice=(
            "Where softmax probabilities are used, set the temperature to {best:.4f}. A model that is far too sure was trained "
            "too long on too little; one trained with a sigmoid has another optimum by nature."
        ),
    ),
    Rule(
        name="uneven_directions",
        severity="note",
        scope="pair",
        applies=lambda f: abs(f["r1_forward"] - f["r1_backward"]) > 2 * ERRORS * f["r1_error"],
        says="R@1 is {r1_forward:.3f} from {first} to {second} and {r1_backward:.3f} back.",
        advice=(
            "Hubs, rows that are near to everything, hurt one direction more. Look at retrieval by hubness, and try whitening "
            "or a symmetric loss such as `clip`."
        ),
    ),
    Rule(
        name="collapse",
        severity="problem",
        scope="modality",
        applies=lambda f: is_collapsed(f["uniformity"], f["uniformity_floor"]),
        says=(
            "{about} covers little of the sphere: uniformity {uniformity:.2f}, where 0 is a single point and "
            "{uniformity_floor:.2f} the best there is."
        ),
        advice="Raise the batch size or lower the temperature, or add a term for uniformity (`align_uniform`).",
    ),
    Rule(
        name="cone",
        severity="warning",
        scope="modality",
        applies=lambda f: f["center_share"] > 0.5,
        says=(
            "{center_share:.0%} of the energy of {about} is one direction that all rows share (a cone), so that cosines say "
            "little about content."
        ),
        advice="Center the modality (mean shift), or train with a loss that spreads each modality by itself.",
    ),
    Rule(
        name="few_directions",
        severity="warning",
        scope="modality",
        applies=lambda f: f["effective_rank"] < 0.1 * f["rank_most"],
        says="{about} uses {effective_rank:.1f} directions of the {rank_most} that there could be.",
        advice="A smaller width would do; or add `vicreg` or `barlow_twins` to the loss, or whiten.",
    ),
    Rule(
        name="copies",
        severity="warning",
        scope="modality",
        applies=lambda f: f["copies"] > 0.05 and not f["has_ids"],
        says="{copies:.0%} of the rows of {about} are copies of another row, and count as its wrong answers.",
        advice="Name the column that tells which rows show the same (`--id_column`, or `--ids` for files).",
    ),
    Rule(
        name="few_rows",
        severity="note",
        scope="modality",
        applies=lambda f: f["rows"] < 2 * f["width"],
        says=(
            "{rows} rows of width {width} are few: spectrum, effective rank, orientation and whitening of {about} are rough."
        ),
        advice="Use at least {rows_wanted} rows (`--num_rows`).",
    ),
)
NO_RETRIEVAL = next(rule for rule in RULES if rule.name == "no_retrieval")
