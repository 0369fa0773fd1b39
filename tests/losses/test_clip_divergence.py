import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.batch import QueuedRows
from hf_contrastive.losses import CLIP, CLIPDivergence, total
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import Rows, assert_matches, masks, off_diagonal, on_every_batch


def over_pairs(modalities: tuple[str, ...], value: object) -> Tensor:
    pairs = [(first, second) for i, first in enumerate(modalities) for second in modalities[i + 1 :]]
    return sum(value(*pair) for pair in pairs) / len(pairs)


def clip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits, labels = scale * x @ y.T, torch.arange(len(x))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def divergence(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """papers.md 1.2: own densities leave the row out, the other modality's density holds its positive."""
    n, cross = len(x), scale * x @ y.T
    inside = [off_diagonal(scale * z @ z.T).exp().mean(dim=1).log() for z in (x, y)]
    outside = [logits.exp().sum(dim=1).log() - math.log(n) for logits in (cross, cross.T)]
    return sum((own - other).mean() for own, other in zip(inside, outside, strict=True)) / 2


@on_every_batch
@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("keep_bytes", [2**28, 0])
def test_matches_clip_plus_a_weight_times_the_divergence(
    modalities: tuple[str, ...], missing: dict[str, list[int]], weight: float, keep_bytes: int
):
    def formula(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        def value(first: str, second: str) -> Tensor:
            x, y = rows(first, second)
            return clip(x, y, scale) + weight * divergence(x, y, scale)

        return over_pairs(modalities, value)

    assert_matches(CLIPDivergence(weight=weight, keep_bytes=keep_bytes), formula, modalities, missing)


@on_every_batch
def test_at_weight_one_is_alignment_and_uniformity_within_each_modality(
    modalities: tuple[str, ...], missing: dict[str, list[int]]
):
    def formula(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        def value(first: str, second: str) -> Tensor:
            x, y = rows(first, second)
            attraction = -scale * (x * y).sum(dim=1).mean()
            repulsion = sum(off_diagonal(scale * z @ z.T).exp().sum(dim=1).log().mean() for z in (x, y)) / 2
            return attraction + repulsion + math.log(len(x) / (len(x) - 1))

        return over_pairs(modalities, value)

    assert_matches(CLIPDivergence(weight=1), formula, modalities, missing)


@on_every_batch
def test_at_weight_zero_is_clip(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    batch = batch_of(random_output(modalities=modalities), masks(modalities, missing))
    torch.testing.assert_close(total(CLIPDivergence(weight=0)(batch)), total(CLIP()(batch)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_outside_the_family_is_refused(weight: float):
    with pytest.raises(ValueError, match=rf"`weight` leads from CLIP at 0 .* at 1, but got {weight}\.$"):
        CLIPDivergence(weight=weight)


def test_both_terms_are_logged():
    assert list(CLIPDivergence()(batch_of(random_output()))) == ["clip", "divergence"]


def test_the_divergence_is_of_the_modalities_as_they_are():
    output = random_output()
    queue = {m: QueuedRows(x, None) for m, x in random_output(seed=5).embeds.items()}
    plain = batch_of(output)
    changed = replace(plain, ids=torch.tensor([0, 0, 1, 2, 3, 4, 5, 6]), margin=0.1, queue=queue)
    loss = CLIPDivergence(weight=0.5)
    assert loss(changed)["divergence"].item() == loss(plain)["divergence"].item()
    assert loss(changed)["clip"].item() == pytest.approx(total(CLIP()(changed)).item(), abs=1e-12)
    assert loss(changed)["clip"].item() != pytest.approx(loss(plain)["clip"].item(), abs=1e-3)
