"""What stands beside the plots of retrieval and temperature, see [`Reading`]."""

from hf_contrastive.diagnosis.reading import Reading, is_open, otherwise
from hf_contrastive.diagnosis.rules import ERRORS


SHIFT = Reading(
    name="shift",
    scope="pair",
    title="Retrieval against the gap",
    how=(
        "The line is what becomes of gap and R@1 of unseen rows as the clouds move along the gap (-1 apart, 0 as they are, 0.5 centers "
        "together, 1 changed places); points are other interventions, and the bar is one standard error of R@1."
    ),
    alt=(
        "{model}: R@1 against the gap; as it is {r1_none:.3f} at a gap of {gap_none:.3f}, after a mean shift "
        "{r1_mean_shift:.3f} at {gap_mean_shift:.3f}."
    ),
    cases=(
        (
            lambda f: not f["r1_mean_shift"] >= 0,
            "The rows cannot be centered, for what is left has no direction: look at the finding on collapse first.",
        ),
        (
            lambda f: f["r1_mean_shift"] - f["r1_none"] > ERRORS * f["trial_error"],
            "A mean shift lifts R@1 from {r1_none:.3f} to {r1_mean_shift:.3f}: subtract each modality's center.",
        ),
        (
            lambda f: f["r1_none"] - f["r1_mean_shift"] > ERRORS * f["trial_error"],
            "A mean shift lowers R@1 from {r1_none:.3f} to {r1_mean_shift:.3f}: do not center these embeddings.",
        ),
        (
            is_open,
            "A mean shift takes the gap from {gap_none:.3f} to {gap_mean_shift:.3f} and leaves R@1 what it was within its error: "
            "subtract the centers where both modalities share an index.",
        ),
        (
            otherwise,
            "The gap is closed as it is, and a mean shift leaves R@1 at {r1_mean_shift:.3f} ({r1_none:.3f} before): nothing to try.",
        ),
    ),
)
TEMPERATURE = Reading(
    name="temperature",
    scope="pair",
    title="Temperature",
    how=(
        "The contrastive loss of unseen rows by temperature, beside that of chance (dotted); the point is the best one, the "
        "ring the model's own, and ranks are the same everywhere."
    ),
    alt="{model}: contrastive loss by temperature, {loss_at_best:.3f} at the best of {best:.4f}.",
    cases=(
        (
            lambda f: f["loss_at_best"] > f["loss_of_chance"] - 0.05,
            "No temperature does better than chance (loss {loss_at_best:.3f} at best, chance {loss_of_chance:.3f}): there is no "
            "use in one before retrieval works.",
        ),
        (
            lambda f: f["own"] is None,
            "No temperature came with these embeddings: where softmax probabilities are used, try {best:.4f}.",
        ),
        (
            lambda f: f["loss_at_own"] - f["loss_at_best"] > 0.1,
            "The model's temperature of {own:.4f} has a loss of {loss_at_own:.3f}: where softmax probabilities are used, try "
            "{best:.4f} ({loss_at_best:.3f}).",
        ),
        (
            otherwise,
            "The model's temperature of {own:.4f} is as good as the best, {best:.4f} (loss {loss_at_own:.3f} and "
            "{loss_at_best:.3f}): nothing to try.",
        ),
    ),
)
HUBNESS = Reading(
    name="hubness",
    scope="pair",
    title="Retrieval by hubness",
    how=(
        "Queries in equal parts by how often their match is found at all, by any query: a line that rises from near zero says "
        "that recall is lost to rows that nothing finds."
    ),
    alt=(
        "{model}: R@1 by how often matches are found; from {query} to {key} {recall_low:.3f} in the lowest third and "
        "{recall_high:.3f} in the highest."
    ),
    cases=(
        (
            lambda f: (
                f["recall_low"] < 0.5 * f["recall_high"]
                and f["recall_high"] - f["recall_low"] > 2 * ERRORS * f["r1_error"]
            ),
            "From {query} to {key}, R@1 is {recall_low:.3f} where matches are seldom found and {recall_high:.3f} where they often "
            "are: try whitening or a mean shift, and hard negatives in training.",
        ),
        (
            otherwise,
            "R@1 depends little on hubs (at most from {recall_low:.3f} to {recall_high:.3f}, {query} to {key}): nothing to try.",
        ),
    ),
)
OCCURRENCES = Reading(
    name="occurrences",
    scope="pair",
    title="How often rows are found",
    how=(
        "Share of rows by how many queries have them among their {k} nearest, beside what random neighbors show (dashed): "
        "weight at zero are rows that nothing finds, a long tail to the right are hubs."
    ),
    alt=(
        "{model}: histogram of {k}-occurrences of {uneven_key}; {antihubs:.1%} are never found (chance {chance_antihubs:.1%}), "
        "skewness {skewness:.2f} (chance {chance_skewness:.2f}), the most found row is found by {top:.0f} queries."
    ),
    cases=(
        (
            lambda f: f["antihubs"] > f["chance_antihubs"] + 0.1,
            "{antihubs:.0%} of {uneven_key} are never found from {uneven_query}: try a mean shift or whitening before the index "
            "is built.",
        ),
        (
            lambda f: f["skewness"] > f["chance_skewness"] + 1,
            "A few {uneven_key} are found by too many (up to {top:.0f} queries, chance {chance_top:.0f}): try a mean shift or "
            "whitening before the index is built.",
        ),
        (
            otherwise,
            "There are no hubs to speak of (skewness {skewness:.2f} of {uneven_key}, chance {chance_skewness:.2f}; "
            "{antihubs:.1%} never found): nothing to try.",
        ),
    ),
)
