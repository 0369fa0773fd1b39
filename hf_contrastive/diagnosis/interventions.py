"""Interventions on two modalities: fitted on one half of the items and measured on the other, side by side."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.diagnosis.linear_head import apply_heads, train_heads
from hf_contrastive.diagnosis.result import Intervention, Temperatures, Trials
from hf_contrastive.functional import CloudMap, mean_shift, shift_along_gap, softmax_perplexity, whitening
from hf_contrastive.losses import get_loss
from hf_contrastive.losses.registry import total
from hf_contrastive.metrics import geometry_report, retrieval_report


# Rows of both halves together; all others are measured as they are, but not intervened on.
MAX_ROWS = 4000
# Fewest rows in a half: the folds of the separability.
MIN_HALF = 5
SHRINKAGE = 0.1
FRACTIONS = tuple(step / 10 for step in range(-10, 11))
TEMPERATURES = tuple(0.005 * 2 ** (step / 2) for step in range(16))
DIVERGENCE_WEIGHTS = (0.0, 0.25, 0.5, 1.0)
HEAD_STEPS = 60
SHIFT_NOTE = "The center of each modality is subtracted, and rows are scaled to unit length again."
WHITENING_NOTE = "Each modality is centered and its covariance made the identity by the symmetric root (ZCA)."
HEAD_NOTE = (
    "A linear head per modality, trained on the frozen embeddings of the other half of the items with the loss "
    "`clip_divergence`. Compare weights with weight 0, which is CLIP alone: training the whole model can do more."
)


def split_items(number: int, ids: Int[Tensor, "n"] | None, seed: int) -> tuple[Int[Tensor, "a"], Int[Tensor, "b"]]:
    """Rows of two halves, in order. Rows of one id are in one half.

    Args:
        number: Rows to split.
        ids: What each row shows. By default every row is its own.
        seed: Seed of the halves.

    Raises:
        ValueError: A half has too few items to be measured.
    """
    group = torch.arange(number) if ids is None else torch.unique(ids, return_inverse=True)[1]
    items = int(group.max()) + 1
    order = torch.randperm(items, generator=torch.Generator().manual_seed(seed))
    first = torch.zeros(items, dtype=torch.bool)
    first[order[: items // 2]] = True
    halves = first[group].nonzero().squeeze(1), (~first[group]).nonzero().squeeze(1)
    if items // 2 < MIN_HALF:
        raise ValueError(
            f"Interventions are fitted on one half of the items and measured on the other, and each needs {MIN_HALF} items, "
            f"but {number} rows that show {items} things have halves of {items // 2} and {items - items // 2}."
        )
    return halves


def try_interventions(
    embeds: Mapping[str, Float[Tensor, "n d"]],
    *,
    ids: Int[Tensor, "n"] | None = None,
    logit_scale: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Trials:
    """
    Mean shift, whitening, moving along the gap, temperature, and the weight of the divergence in the loss.

    Args:
        embeds (`dict[str, Tensor]`):
            Two modalities.
        ids (`Tensor`, *optional*):
            What each row shows.
        logit_scale (`float`, *optional*):
            The model's inverse temperature, at which heads are trained. By default the best one.
        seed (`int`, *optional*, defaults to 0):
            Seed of the halves and of the heads' batches.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a bar.

    Raises:
        ValueError: There are too few rows for two halves.
    """
    rows = _subset(len(next(iter(embeds.values()))), ids, seed)
    unit = {m: F.normalize(x[rows].float(), dim=1) for m, x in embeds.items()}
    ids = None if ids is None else ids[rows]
    halves = split_items(len(rows), ids, seed)
    fitted, measured = ({m: x[half] for m, x in unit.items()} for half in halves)
    fitted_ids, measured_ids = (None if ids is None else ids[half] for half in halves)

    total_trials = 3 + len(DIVERGENCE_WEIGHTS) + len(FRACTIONS)
    with tqdm(total=total_trials, desc="interventions", leave=False, disable=not progress) as bar:
        trial = _Trial(fitted, measured, fitted_ids, measured_ids, bar)
        temperatures = _temperatures(trial, logit_scale)
        found = [*_maps(trial), *_heads(trial, logit_scale or 1 / temperatures.best, seed)]
        curve = _shift_curve(trial)
    return Trials(
        fitted_rows=len(halves[0]),
        measured_rows=len(halves[1]),
        measured_items=len(halves[1]) if measured_ids is None else len(torch.unique(measured_ids)),
        interventions=tuple(found),
        shift_curve=curve,
        temperatures=temperatures,
    )


class _Trial(NamedTuple):
    """Unit rows of two modalities to fit on and to measure, what they show, and how far the trials have come."""

    fitted: dict[str, Tensor]
    measured: dict[str, Tensor]
    fitted_ids: Tensor | None
    measured_ids: Tensor | None
    bar: Any

    def report(self, changed: Mapping[str, Tensor]) -> dict[str, float]:
        """Measures of the rows as an intervention has changed them."""
        self.bar.update()
        ids = self.measured_ids
        return geometry_report(changed, ids=ids, separability=True) | retrieval_report(changed, ids=ids)

    def after(self, fit: Callable[[], Mapping[str, CloudMap]]) -> tuple[dict[str, float], str]:
        """Measures after maps by modality, or why there are none: a cloud that has collapsed cannot be centered, which is no
        reason to stop.
        """
        try:
            maps = fit()
            changed = {m: maps[m].apply(x) for m, x in self.measured.items()}
        except ValueError as error:
            return {}, f"Could not be done. {error}"
        return self.report(changed), ""


def _maps(trial: _Trial) -> list[Intervention]:
    """The rows as they are, after a mean shift, and after whitening."""
    shifted, no_shift = trial.after(lambda: {m: mean_shift(x) for m, x in trial.fitted.items()})
    whitened, no_whitening = trial.after(
        lambda: {m: whitening(x, shrinkage=SHRINKAGE) for m, x in trial.fitted.items()}
    )
    return [
        Intervention(name="none", label="as it is", metrics=trial.report(trial.measured)),
        Intervention(name="mean_shift", label="mean shift", metrics=shifted, note=no_shift or SHIFT_NOTE),
        Intervention(
            name="whitening",
            label="whitening",
            metrics=whitened,
            settings={"shrinkage": SHRINKAGE},
            note=no_whitening or WHITENING_NOTE,
        ),
    ]


def _heads(trial: _Trial, scale: float, seed: int) -> list[Intervention]:
    """A linear head for each weight of the divergence."""
    found = []
    for weight in DIVERGENCE_WEIGHTS:
        loss = get_loss("clip_divergence", weight=weight)
        heads = train_heads(trial.fitted, loss, scale=scale, ids=trial.fitted_ids, steps=HEAD_STEPS, seed=seed)
        found.append(
            Intervention(
                name="linear_head",
                label=f"linear head, divergence weight {weight:g}",
                metrics=trial.report(apply_heads(heads, trial.measured)),
                settings={"weight": weight, "logit_scale": scale},
                note=HEAD_NOTE,
            )
        )
    return found


def _shift_curve(trial: _Trial) -> dict[float, dict[str, float]]:
    """Measures after moving both modalities along the gap, by fraction."""
    curve = {}
    x, y = trial.fitted.values()
    for fraction in FRACTIONS:
        maps = dict(zip(trial.fitted, shift_along_gap(x, y, fraction), strict=True))
        curve[fraction], _ = trial.after(partial(dict, maps))
    return curve


def _subset(number: int, ids: Tensor | None, seed: int) -> Tensor:
    """At most `MAX_ROWS` rows, whole items as far as they fit."""
    if number <= MAX_ROWS:
        return torch.arange(number)
    group = torch.arange(number) if ids is None else torch.unique(ids, return_inverse=True)[1]
    order = torch.randperm(int(group.max()) + 1, generator=torch.Generator().manual_seed(seed + 1))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return place[group].argsort(stable=True)[:MAX_ROWS].sort().values


def contrastive_loss(unit: Mapping[str, Float[Tensor, "n d"]], ids: Int[Tensor, "n"] | None, scale: float) -> float:
    """CLIP's loss of all rows among each other."""
    batch = ContrastiveBatch.whole(dict(unit), torch.tensor(scale), ids=ids)
    return float(total(get_loss("clip")(batch)))


@torch.no_grad()
def _temperatures(trial: _Trial, logit_scale: float | None) -> Temperatures:
    measured, measured_ids = trial.measured, trial.measured_ids
    x, y = measured.values()
    losses = [contrastive_loss(measured, measured_ids, 1 / t) for t in TEMPERATURES]
    perplexity = [
        float(softmax_perplexity(x, y, 1 / t).mean() + softmax_perplexity(y, x, 1 / t).mean()) / 2
        for t in TEMPERATURES
    ]
    best = _best_temperature(trial.fitted, trial.fitted_ids)
    return Temperatures(
        temperatures=TEMPERATURES,
        loss=tuple(losses),
        perplexity=tuple(perplexity),
        # Not always log(n): rows of one id are no candidates of each other.
        chance=contrastive_loss(measured, measured_ids, 1e-6),
        best=best,
        loss_at_best=contrastive_loss(measured, measured_ids, 1 / best),
        own=None if logit_scale is None else 1 / logit_scale,
        loss_at_own=None if logit_scale is None else contrastive_loss(measured, measured_ids, logit_scale),
    )


def _best_temperature(unit: Mapping[str, Tensor], ids: Tensor | None) -> float:
    """The temperature with the least loss, to within 6 %: of the grid, then between its neighbors."""

    def loss(temperature: float) -> float:
        return contrastive_loss(unit, ids, 1 / temperature)

    nearest = min(TEMPERATURES, key=loss)
    return min((nearest * 2 ** (step / 12) for step in range(-6, 7)), key=loss)
