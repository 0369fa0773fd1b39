import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hf_contrastive.losses import total
from hf_contrastive.losses.dcl import DCL, DCLW
from hf_contrastive.losses.sums import both_directions
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import TWO, assert_matches, masks, on_every_batch
from tests.losses.loops import IDS, OWN_IDS, Items, WithIds, formula, log_sum, over_directions


with_and_without_own_rows = pytest.mark.parametrize("within", [False, True])
with_and_without_ids = pytest.mark.parametrize("ids", [OWN_IDS, IDS], ids=["no ids", "ids"])


@on_every_batch
@with_and_without_own_rows
@with_and_without_ids
def test_matches_the_paper(modalities: tuple[str, ...], missing: dict[str, list[int]], within: bool, ids: list[int]):
    """Yeh et al. 2021, Equation 6."""

    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        negatives = items.negatives(query, key, i, within=within)
        return -items.logit((query, i), (key, i)) + (log_sum(negatives) if negatives else 0)

    loss = DCL(within=within) if ids is OWN_IDS else WithIds(DCL(within=within))
    assert_matches(loss, formula(modalities, missing, over_directions(modalities, value), ids), modalities, missing)


@on_every_batch
@with_and_without_own_rows
def test_weighted_matches_the_paper(modalities: tuple[str, ...], missing: dict[str, list[int]], within: bool):
    """DCLW of Yeh et al. 2021, with weights that are constants to the gradient."""

    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        with torch.no_grad():
            near = {
                j: math.exp(items.embeds[query][j] @ items.embeds[key][j] / 0.5) for j in items.with_all(query, key)
            }
            weight = 2 - near[i] / (sum(near.values()) / len(near))
        return -weight * items.logit((query, i), (key, i)) + log_sum(items.negatives(query, key, i, within=within))

    terms = formula(modalities, missing, over_directions(modalities, value))
    assert_matches(DCLW(within=within), terms, modalities, missing)


@on_every_batch
def test_weights_of_a_wide_sigma_are_all_one(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    batch = batch_of(random_output(modalities=modalities), masks(modalities, missing))
    torch.testing.assert_close(total(DCLW(sigma=1e12)(batch)), total(DCL()(batch)), rtol=0, atol=1e-9)


def test_is_clip_with_the_positive_taken_out_of_the_sum():
    batch = batch_of(random_output())
    values = []
    for query, key, sums in both_directions(batch, batch.pairs(), keep_bytes=0):
        positive = batch.positive_logits(query, key)
        values.append((sums.exp() - positive.exp()).log() - positive)
    torch.testing.assert_close(total(DCL()(batch)), torch.stack(values).mean(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", [DCL(), DCL(within=True), DCLW()])
def test_rows_without_negatives_are_only_pulled(loss: DCL):
    batch = batch_of(random_output(num_rows=4))
    batch = replace(batch, ids=torch.zeros(4, dtype=torch.long))
    weights = loss._weights(batch, *TWO)
    expected = -(weights * batch.positive_logits(*TWO)).mean()
    torch.testing.assert_close(total(loss(batch)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf")])
def test_a_sigma_that_is_no_width_is_refused(sigma: float):
    with pytest.raises(ValueError, match=f"`sigma` must be positive and finite, but got {sigma}"):
        DCLW(sigma=sigma)


def test_logs_one_term_each():
    assert [list(loss(batch_of(random_output()))) for loss in (DCL(), DCLW())] == [["dcl"], ["dclw"]]
