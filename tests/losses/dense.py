"""Compare a loss with a plain formula on whole matrices, in value and gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hf_contrastive.losses import ContrastiveLoss, total
from hf_contrastive.testing import NUM_ROWS, batch_of, random_output


# A formula gets `rows(*modalities)`, their embeddings of the items that have all of them, then scale and bias.
Rows = Callable[..., list[Tensor]]
Formula = Callable[[Rows, Tensor, Tensor], Tensor]

TWO, THREE = ("image", "text"), ("audio", "image", "text")
MISSING = {"text": [0, 5, 6], "audio": [5, 7]}

on_every_batch = pytest.mark.parametrize(
    ("modalities", "missing"),
    [(TWO, {}), (TWO, MISSING), (THREE, {}), (THREE, MISSING)],
    ids=["two", "two, some missing", "three", "three, some missing"],
)


def masks(modalities: tuple[str, ...], missing: dict[str, list[int]]) -> dict[str, Tensor]:
    present = {m: torch.ones(NUM_ROWS, dtype=torch.bool) for m in modalities}
    for m in modalities:
        present[m][missing.get(m, [])] = False
    return present


def assert_matches(
    loss: ContrastiveLoss, formula: Formula, modalities: tuple[str, ...], missing: dict[str, list[int]]
) -> None:
    """Assert that both agree to 1e-9 in value and in the gradient of every embedding, of scale and of bias."""
    output, present = random_output(modalities=modalities), masks(modalities, missing)

    def rows(*wanted: str) -> list[Tensor]:
        items = [i for i in range(NUM_ROWS) if all(present[m][i] for m in wanted)]
        return [output.embeds[m][items] for m in wanted]

    actual = total(loss(batch_of(output, present)))
    expected = formula(rows, output.logit_scale, output.logit_bias)
    inputs = [*output.embeds.values(), output.logit_scale, output.logit_bias]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)
    for ours, theirs in zip(*(gradients(value, inputs) for value in (actual, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def gradients(value: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)


def off_diagonal(x: Tensor) -> Tensor:
    """The rows of a square matrix without their diagonal entries."""
    n = len(x)
    return x[~torch.eye(n, dtype=torch.bool)].view(n, n - 1)


def log_mean_potential(x: Tensor, t: float = 2.0) -> Tensor:
    """Uniformity as Wang & Isola 2020 program it: all distances of distinct rows."""
    return torch.pdist(x).square().mul(-t).exp().mean().log()
