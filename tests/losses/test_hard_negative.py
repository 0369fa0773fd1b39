import pytest
import torch
from torch import Tensor

from hf_contrastive.losses import CLIP, total
from hf_contrastive.losses.debiased import Debiased
from hf_contrastive.losses.hard_negative import HardNegative
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import assert_matches, gradients, masks, on_every_batch
from tests.losses.loops import IDS, OWN_IDS, Items, WithIds, formula, over_directions


@on_every_batch
@pytest.mark.parametrize(("beta", "tau_plus"), [(0.5, 0.0), (1.0, 0.1), (2.0, 0.01)])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("ids", [OWN_IDS, IDS], ids=["no ids", "ids"])
def test_matches_the_authors_estimate(
    modalities: tuple[str, ...],
    missing: dict[str, list[int]],
    beta: float,
    tau_plus: float,
    within: bool,
    ids: list[int],
):
    """Robinson et al. 2020, as their code has it: weights of mean 1, then the correction of `debiased`."""

    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        positive = items.logit((query, i), (key, i)).exp()
        logits = items.negatives(query, key, i, within=within)
        if not logits:
            return positive * 0
        n, negatives = len(logits), torch.stack(logits).exp()
        weights = negatives**beta
        reweighted = (weights * negatives).sum() / weights.mean()
        estimate = (reweighted - n * tau_plus * positive) / (1 - tau_plus)
        return -(positive / (positive + torch.maximum(estimate, n * (-items.scale).exp()))).log()

    loss = HardNegative(beta=beta, tau_plus=tau_plus, within=within)
    loss = loss if ids is OWN_IDS else WithIds(loss)
    assert_matches(loss, formula(modalities, missing, over_directions(modalities, value), ids), modalities, missing)


@on_every_batch
@pytest.mark.parametrize(
    ("hard", "plain"),
    [
        pytest.param(HardNegative(beta=0, tau_plus=0.2), Debiased(tau_plus=0.2), id="debiased"),
        pytest.param(HardNegative(beta=0, tau_plus=0), CLIP(), id="clip"),
    ],
)
@pytest.mark.parametrize("ids", [False, True])
def test_without_preference_is_a_plainer_loss(
    modalities: tuple[str, ...], missing: dict[str, list[int]], hard: HardNegative, plain: Debiased | CLIP, ids: bool
):
    output, present = random_output(modalities=modalities), masks(modalities, missing)
    inputs = [*output.embeds.values(), output.logit_scale]
    losses = [WithIds(loss) if ids else loss for loss in (hard, plain)]
    ours, theirs = (total(loss(batch_of(output, present))) for loss in losses)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


def test_preference_raises_the_loss():
    batch = batch_of(random_output())
    values = [total(HardNegative(beta=beta)(batch)).item() for beta in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)
    assert values[0] < values[-1]


@pytest.mark.parametrize("beta", [-0.5, float("inf")])
def test_a_beta_that_prefers_easy_negatives_is_refused(beta: float):
    with pytest.raises(ValueError, match=f"`beta` must be at least 0 and finite, but got {beta}"):
        HardNegative(beta=beta)


def test_a_tau_that_is_no_chance_is_refused():
    with pytest.raises(ValueError, match="`tau_plus` is the chance"):
        HardNegative(tau_plus=1.0)
