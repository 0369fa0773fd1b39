"""How well a linear rule tells two modalities apart."""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_same_width


def linear_separability(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    folds: int = 5,
    ridge: float = 1e-3,
    seed: int = 0,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    r"""Cross-validated accuracy of a linear classifier that names the modality of a row. 0.5 is chance, 1 a full gap.

    The classifier is regularized least squares on labels 1 and -1 with classes weighted equally, which is linear
    discriminant analysis. Accuracy is the mean of both classes' accuracies on rows that the classifier did not see;
    with equally many rows, row i of both clouds is held out together, so that no pair is split.

    Source: the measure of Shi et al. 2023, Section 3, https://openreview.net/forum?id=8W3KGzw7fNI.

    Args:
        x: First cloud.
        y: Second cloud.
        folds: Parts that the rows are split into, each held out once.
        ridge: Regularization as a share of the mean variance of a coordinate.
        seed: Seed of the split.
        normalize: Whether to scale rows to unit length first.
    """
    if folds < 2:
        raise ValueError(f"`folds` must be at least 2, but got {folds}.")
    x, y = (as_embeddings(z, name, min_rows=folds, normalize=normalize) for z, name in ((x, "x"), (y, "y")))
    check_same_width(x, y, "`x` and `y`")
    # The fold of a row is its place in one seeded shuffle, so equal sizes get equal folds.
    fold_x, fold_y = (_folds(len(z), folds, seed).to(z.device) for z in (x, y))
    accuracies = []
    for fold in range(folds):
        weight, bias = _discriminant(x[fold_x != fold], y[fold_y != fold], ridge)
        accuracies += [_accuracy(x[fold_x == fold] @ weight - bias), _accuracy(bias - y[fold_y == fold] @ weight)]
    return torch.stack(accuracies).mean()


def _folds(rows: int, folds: int, seed: int) -> Tensor:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed)) % folds


def _discriminant(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    centers = x.mean(dim=0), y.mean(dim=0)
    covariance = (x - centers[0]).mT @ (x - centers[0]) / len(x) + (y - centers[1]).mT @ (y - centers[1]) / len(y)
    width = x.shape[1]
    # A floor for the ridge: two collapsed clouds have no variance to take a share of.
    strength = (ridge * covariance.diagonal().mean()).clamp(min=torch.finfo(x.dtype).eps)
    weight = torch.linalg.solve(covariance + strength * torch.eye(width).to(x), centers[0] - centers[1])
    return weight, weight @ (centers[0] + centers[1]) / 2


def _accuracy(margins: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    # A row on the boundary is a guess: collapsed clouds must score like chance.
    return (1 + margins.sign()).mean() / 2
