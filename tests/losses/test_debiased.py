import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hf_contrastive.batch import QueuedRows
from hf_contrastive.losses import total
from hf_contrastive.losses.debiased import Debiased
from hf_contrastive.losses.info_nce import InfoNCE
from hf_contrastive.losses.sums import count_negatives
from hf_contrastive.testing import batch_of, random_output
from tests.functional.rows import unit_rows
from tests.losses.dense import THREE, TWO, assert_matches, gradients, masks, on_every_batch
from tests.losses.loops import IDS, OWN_IDS, Items, WithIds, formula, over_directions


@on_every_batch
@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("ids", [OWN_IDS, IDS], ids=["no ids", "ids"])
def test_matches_the_paper(
    modalities: tuple[str, ...], missing: dict[str, list[int]], tau_plus: float, within: bool, ids: list[int]
):
    """Chuang et al. 2020 with one positive."""

    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        positive = items.logit((query, i), (key, i)).exp()
        negatives = items.negatives(query, key, i, within=within)
        n, found = len(negatives), sum((x.exp() for x in negatives), torch.zeros(()))
        estimate = (found - n * tau_plus * positive) / (1 - tau_plus)
        return -(positive / (positive + torch.maximum(estimate, n * (-items.scale).exp()))).log()

    loss = Debiased(tau_plus=tau_plus, within=within)
    loss = loss if ids is OWN_IDS else WithIds(loss)
    assert_matches(loss, formula(modalities, missing, over_directions(modalities, value), ids), modalities, missing)


@on_every_batch
@pytest.mark.parametrize("within", [False, True])
def test_without_hidden_positives_is_info_nce(
    modalities: tuple[str, ...], missing: dict[str, list[int]], within: bool
):
    output, present = random_output(modalities=modalities), masks(modalities, missing)
    inputs = [*output.embeds.values(), output.logit_scale]
    losses = Debiased(tau_plus=0, within=within), InfoNCE(within=within)
    ours, theirs = (total(loss(batch_of(output, present))) for loss in losses)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


@pytest.mark.parametrize("within", [False, True])
def test_negatives_are_counted_without_false_ones_and_with_queued_rows(within: bool):
    batch = batch_of(random_output(modalities=THREE), masks(THREE, {"text": [0, 5, 6]}))
    pairs = [TWO]
    own = torch.tensor([7, 7, 7, 7, 7, 7, 7, 7]), torch.tensor([4] * 8)
    for count, others in zip(count_negatives(batch, pairs, within=within), own, strict=True):
        torch.testing.assert_close(count, 4.0 + within * others.double(), rtol=0, atol=0)

    queue = {"text": QueuedRows(unit_rows(3, 5, seed=4), torch.tensor([0, 1, 9]))}
    batch = replace(batch, ids=torch.tensor(IDS), queue=queue)
    # Item 2 shares its id with 7, and item 1 with none that has a text. Two or three of the queue are of other ids.
    forth, back = count_negatives(batch, pairs)
    assert [int(forth[i]) for i in (1, 2, 3)] == [4 + 2, 3 + 2, 4 + 3]
    assert [int(back[i]) for i in (1, 2, 3)] == [4, 3, 4]


def test_negatives_are_counted_without_those_above_the_margin():
    batch = replace(batch_of(random_output()), margin=0.1)
    cosines = (batch.local["image"] @ batch.local["text"].T).detach()
    for count, matrix in zip(count_negatives(batch, [TWO]), (cosines, cosines.T), strict=True):
        expected = (matrix <= matrix.diagonal().unsqueeze(1) + 0.1).sum(dim=1) - 1
        assert count.tolist() == expected.tolist()
        assert 0 < count.min() < count.max()


@pytest.mark.parametrize("scale", [1.0, 50.0, 100.0])
@pytest.mark.parametrize("tau_plus", [0.0, 0.1])
def test_single_precision_stands_any_temperature(scale: float, tau_plus: float):
    output = random_output(num_rows=64, width=3)
    embeds = {m: x.detach().requires_grad_() for m, x in output.embeds.items()}
    embeds["text"] = embeds["image"].detach().clone().requires_grad_()
    values = {}
    for dtype in (torch.float32, torch.float64):
        inputs = {m: x.detach().to(dtype).requires_grad_() for m, x in embeds.items()}
        s = torch.tensor(scale, dtype=dtype, requires_grad=True)
        value = total(Debiased(tau_plus=tau_plus)(batch_of(output._replace(embeds=inputs, logit_scale=s))))
        values[dtype] = [value, *gradients(value, [*inputs.values(), s])]
    for single, double in zip(values[torch.float32], values[torch.float64], strict=True):
        assert single.isfinite().all()
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def test_near_positives_bring_the_correction_down_to_its_floor():
    output = random_output()
    batch = batch_of(output._replace(embeds=dict.fromkeys(TWO, output.embeds["image"])))
    plain, some, most = (total(Debiased(tau_plus=tau)(batch)).item() for tau in (0.0, 1e-3, 0.5))
    assert plain > some > most
    # Seven negatives that sum to exp(-7) each, beside a positive of exp(7).
    assert math.isclose(most, math.log1p(7 * math.exp(-14)), abs_tol=1e-9)


@pytest.mark.parametrize("tau_plus", [-0.1, 1.0])
def test_a_tau_that_is_no_chance_is_refused(tau_plus: float):
    with pytest.raises(ValueError, match=rf"`tau_plus` is the chance .*, in \[0, 1\), but got {tau_plus}\."):
        Debiased(tau_plus=tau_plus)
