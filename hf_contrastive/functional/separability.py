"""How well a linear rule tells two modalities apart."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width
from hf_contrastive.functional.matches import folds_of_items, item_numbers


class Separability(NamedTuple):
    """How well a linear rule tells two modalities apart, and how sure that is.

    Args:
        accuracy: Balanced accuracy on rows that the rule did not see.
        chance: What a rule that knows nothing has, 0.5.
        standard_error: Of the accuracy over samples of items, rows of one item taken together. Zero where no row, or
            every row, is mistaken: then the share of mistakes is below about 3 / (n + m) (the rule of three).
    """

    accuracy: Float[Tensor, ""]
    chance: float
    standard_error: Float[Tensor, ""]


def linear_separability(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    folds: int = 5,
    ridge: float = 1e-3,
    seed: int = 0,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    """The accuracy of [`modality_separability`], whose arguments it has but for ids."""
    return modality_separability(x, y, folds=folds, ridge=ridge, seed=seed, normalize=normalize).accuracy


@torch.no_grad()
def modality_separability(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    x_ids: Int[Tensor, "n"] | None = None,
    y_ids: Int[Tensor, "m"] | None = None,
    folds: int = 5,
    ridge: float = 1e-3,
    seed: int = 0,
    normalize: bool = True,
) -> Separability:
    r"""Cross-validated accuracy of a linear classifier that names the modality of a row. 0.5 is chance, 1 a full gap.

    The classifier is regularized least squares on labels 1 and -1 with classes weighted equally, which is linear
    discriminant analysis. Accuracy is the mean of both classes' accuracies on rows that the classifier did not see.
    All rows of an item are held out together, so that nothing of it is known: by ids, or with equally many rows row i
    of both clouds. Without ids, rows of clouds of different sizes are taken as unrelated.

    Source: the measure of Shi et al. 2023, Section 3, https://openreview.net/forum?id=8W3KGzw7fNI.

    Args:
        x: First cloud.
        y: Second cloud.
        x_ids: Item of each row of `x`.
        y_ids: Item of each row of `y`.
        folds: Parts that the items are split into, each held out once.
        ridge: Regularization as a share of the mean variance of a coordinate.
        seed: Seed of the split.
        normalize: Whether to scale rows to unit length first.
    """
    if folds < 2:
        raise ValueError(f"`folds` must be at least 2, but got {folds}.")
    x, y = (as_embeddings(z, name, min_rows=folds, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    items_x, items_y = item_numbers(x, y, x_ids, y_ids)
    fold_x, fold_y = folds_of_items(items_x, items_y, folds, seed)
    hits = x.new_zeros(len(x)), y.new_zeros(len(y))
    accuracies = []
    with torch.autocast(x.device.type, enabled=False):
        for fold in range(folds):
            rows = fold_x == fold, fold_y == fold
            weight, bias = _discriminant(x[~rows[0]], y[~rows[1]], ridge)
            for own, z, held_out, sign in zip(hits, (x, y), rows, (1, -1), strict=True):
                # A row on the boundary is a guess: collapsed clouds must score like chance.
                own[held_out] = (1 + (sign * (z[held_out] @ weight - bias)).sign()) / 2
                accuracies.append(own[held_out].mean())
    return Separability(torch.stack(accuracies).mean(), 0.5, _standard_error(hits, (items_x, items_y)))


def _standard_error(hits: tuple[Tensor, Tensor], items: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
    """Of the mean of both classes' accuracies: what each item adds to it varies independently."""
    num = int(max(z.amax() for z in items)) + 1
    added = hits[0].new_zeros(num)
    for own, places in zip(hits, items, strict=True):
        added.index_add_(0, places, (own - own.mean()) / (2 * len(own)))
    return added.square().sum().sqrt()


def _discriminant(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    centers = x.mean(dim=0), y.mean(dim=0)
    covariance = (x - centers[0]).mT @ (x - centers[0]) / len(x) + (y - centers[1]).mT @ (y - centers[1]) / len(y)
    width = x.shape[1]
    # A floor for the ridge: two collapsed clouds have no variance to take a share of.
    strength = (ridge * covariance.diagonal().mean()).clamp(min=torch.finfo(x.dtype).eps)
    weight = torch.linalg.solve(covariance + strength * torch.eye(width).to(x), centers[0] - centers[1])
    return weight, weight @ (centers[0] + centers[1]) / 2
