"""What frozen embeddings know: nearest neighbours, a linear probe, class prototypes, rank correlation.

Dimension key: n = training rows, m = test rows, C = classes, T = templates, d = embedding width.
"""

import warnings

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from hf_contrastive.functional.checks import (
    as_embeddings,
    check_labels,
    check_positive,
    check_same_width,
    refuse_nonfinite,
)
from hf_contrastive.functional.ranks import Ranks
from hf_contrastive.functional.retrieval import CHUNK_SCORES


def class_prototypes(x: Float[Tensor, "C T d"]) -> Float[Tensor, "C d"]:
    """Unit embedding of each class: the mean of its unit embeddings in all templates, scaled to unit length.

    Source: Radford et al. 2021, Section 3.1.4, https://huggingface.co/papers/2103.00020.
    """
    unit = as_embeddings(x.flatten(end_dim=1), "x").view(x.shape)
    return as_embeddings(unit.mean(dim=1), "the mean over templates")


def class_ranks(scores: Float[Tensor, "m C"], labels: Int[Tensor, "m"]) -> Ranks:
    """Place of each row's true class among all by score; `recall(k)` is top-k accuracy, ties shared.

    Raises:
        ValueError: A label is none of the classes, or a score is not finite: a NaN would be beaten by none.
    """
    check_labels(labels, *scores.shape)
    refuse_nonfinite(scores, "scores")
    own = scores.gather(1, labels.unsqueeze(1))
    tied = (scores == own).sum(dim=1) - 1
    return Ranks((scores > own).sum(dim=1), tied, torch.ones_like(tied))


def mean_per_class(values: Float[Tensor, "m"], labels: Int[Tensor, "m"]) -> Float[Tensor, ""]:
    """Mean over the classes that occur of the mean of `values` within each, so that small classes count as much.

    >>> mean_per_class(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1]))
    tensor(0.5000)
    """
    _, group, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return (values.new_zeros(len(counts)).index_add(0, group, values) / counts).mean()


def neighbor_scores(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    *,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    chunk_size: int | None = None,
) -> Float[Tensor, "m C"]:
    r"""Votes of the k nearest training rows for each class, each weighted by $e^{(\cos - 1) / \tau}$.

    Source: Wu et al. 2018, Section 3.4, https://huggingface.co/papers/1805.01978, as DINO evaluates.

    Args:
        train: Rows with known classes.
        labels: Their classes, from 0.
        test: Rows to classify.
        num_classes: Number of classes.
        k: Neighbours that vote; all rows where there are fewer.
        temperature: Cosine difference over which a vote's weight falls by e.
        chunk_size: Test rows whose cosines are held at a time. By default as many as fit 16 MiB.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1, but got {k}.")
    check_positive(temperature, "temperature")
    train, test = as_embeddings(train, "train"), as_embeddings(test, "test")
    check_same_width(train, test, "`train` and `test`")
    check_labels(labels, len(train), num_classes)
    scores = test.new_zeros(len(test), num_classes)
    step = chunk_size or max(1, CHUNK_SCORES // len(train))
    with torch.autocast(test.device.type, enabled=False):
        for start in range(0, len(test), step):
            rows = slice(start, start + step)
            cosines, nearest = (test[rows] @ train.T).topk(min(k, len(train)), dim=1)
            scores[rows].scatter_add_(1, labels[nearest], ((cosines - 1) / temperature).exp())
    return scores


@torch.enable_grad()
def linear_probe(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    *,
    num_classes: int,
    l2: float = 1e-3,
    max_iter: int = 500,
) -> Float[Tensor, "m C"]:
    r"""Logits of a multinomial logistic regression, fitted on `train` and applied to `test`, in double precision.

    Minimizes mean cross-entropy plus $\frac{l_2}{2} \lVert W \rVert^2$ (no penalty on the bias) with L-BFGS from zero,
    so that the same rows give the same result. Coordinates are standardized by mean and deviation of `train`.

    Args:
        train: Rows with known classes.
        labels: Their classes, from 0.
        test: Rows to classify.
        num_classes: Number of classes.
        l2: Strength of the penalty. scikit-learn's `C` is 1 / (n l2).
        max_iter: Most iterations.

    Warns:
        UserWarning: The optimum is not reached in `max_iter` iterations.
    """
    check_positive(l2, "l2")
    check_same_width(train, test, "`train` and `test`")
    check_labels(labels, len(train), num_classes)
    train, test = (
        as_embeddings(x.detach(), name, normalize=False).double() for x, name in ((train, "train"), (test, "test"))
    )
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    # A coordinate that never varies says nothing, and must not be blown up by its rounding.
    scale = torch.where(deviation > 1e-7, deviation, torch.inf)
    train, test = (train - mean) / scale, (test - mean) / scale
    weight = train.new_zeros(num_classes, train.shape[1], requires_grad=True)
    bias = train.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=max_iter, tolerance_grad=1e-6, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), labels) + l2 / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    closure()
    slope = max(float(p.grad.abs().max()) for p in (weight, bias) if p.grad is not None)
    if slope > 1e-4:
        # Not an error: a run of hours must not end for the last digit of a measure.
        warnings.warn(
            f"The linear probe has not converged in {max_iter} iterations (largest slope {slope:.1e}), so its accuracy may "
            f"be a little off. Raise `max_iter`, or `l2`, which is {l2}.",
            stacklevel=2,
        )
    with torch.no_grad():
        return F.linear(test, weight, bias)


def average_ranks(x: Shaped[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Rank of each value, counted from 1; equal values share the mean of their ranks.

    >>> average_ranks(torch.tensor([0.5, 0.1, 0.5]))
    tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    _, group, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(dim=0).double()
    return (last - (counts - 1) / 2)[group]


def spearman(x: Shaped[Tensor, "n"], y: Shaped[Tensor, "n"]) -> Float[Tensor, ""]:
    """Rank correlation of two lists of numbers, from -1 to 1; ties share their ranks.

    Raises:
        ValueError: The lists differ in length, have fewer than two numbers, hold a NaN, or one holds a single value.
    """
    if len(x) != len(y):
        raise ValueError(f"`x` and `y` must be as many numbers, but got {len(x)} and {len(y)}.")
    ranks = []
    for name, values in (("x", x), ("y", y)):
        if values.isnan().any():
            raise ValueError(f"`{name}` holds a NaN, which has no rank: entry {int(values.isnan().nonzero()[0])}.")
        ranks.append(average_ranks(values))
        if len(values) < 2 or (values == values[0]).all():
            raise ValueError(
                f"`{name}` must hold two or more different numbers to correlate, but all {len(values)} are equal."
            )
    centered = [r - r.mean() for r in ranks]
    return (centered[0] * centered[1]).sum() / (centered[0].norm() * centered[1].norm())
