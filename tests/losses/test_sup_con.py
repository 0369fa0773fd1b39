from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hf_contrastive.batch import QueuedRows
from hf_contrastive.losses import CLIP, total
from hf_contrastive.losses.nt_xent import NTXent
from hf_contrastive.losses.sup_con import SupCon
from hf_contrastive.testing import batch_of, random_output
from tests.functional.rows import unit_rows
from tests.losses.dense import THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch
from tests.losses.loops import IDS, Items, WithIds, formula, log_sum, mean, over_directions


@on_every_batch
def test_matches_the_paper_across_modalities(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    """Khosla et al. 2020, Equation 2, candidates and positives in the other modality."""

    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        candidates = items.with_all(query, key)
        positives = [j for j in candidates if IDS[j] == IDS[i]]
        denominator = log_sum([items.logit((query, i), (key, j)) for j in candidates])
        return -sum(items.logit((query, i), (key, p)) - denominator for p in positives) / len(positives)

    terms = formula(modalities, missing, over_directions(modalities, value), IDS)
    assert_matches(WithIds(SupCon()), terms, modalities, missing)


@on_every_batch
def test_matches_the_paper_over_all_views(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    """Khosla et al. 2020, Equation 2. Rows of two modalities are compared if both have both."""

    def value(items: Items) -> Tensor:
        views = []
        for m in modalities:
            rows = []
            for i in items.embeds[m]:
                others = [(n, j) for n in modalities for j in items.embeds[n] if (n, j) != (m, i)]
                others = [(n, j) for n, j in others if {i, j} <= set(items.with_all(m, n))]
                positives = [place for place in others if IDS[place[1]] == IDS[i]]
                if positives:
                    denominator = log_sum([items.logit((m, i), place) for place in others])
                    rows.append(-mean(items.logit((m, i), place) - denominator for place in positives))
            views.append(mean(rows))
        return mean(views)

    assert_matches(WithIds(SupCon(within=True)), formula(modalities, missing, value, IDS), modalities, missing)


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_matches_one_matrix_of_all_rows(modalities: tuple[str, ...]):
    def paper(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        z, labels = torch.cat(rows(*modalities)), torch.tensor(IDS * len(modalities))
        own = torch.eye(len(z), dtype=torch.bool)
        logits = (scale * z @ z.T).masked_fill(own, -torch.inf)
        positive = (labels.unsqueeze(1) == labels) & ~own
        chances = logits.log_softmax(dim=1).masked_fill(~positive, 0)
        return -(chances.sum(dim=1) / positive.sum(dim=1)).mean()

    assert_matches(WithIds(SupCon(within=True)), paper, modalities, {})


@on_every_batch
@pytest.mark.parametrize(("within", "plain"), [(False, CLIP()), (True, NTXent())], ids=["clip", "nt_xent"])
@pytest.mark.parametrize("own_ids", [False, True])
def test_where_every_row_is_its_own_is_a_plainer_loss(
    modalities: tuple[str, ...], missing: dict[str, list[int]], within: bool, plain: CLIP | NTXent, own_ids: bool
):
    output, present = random_output(modalities=modalities), masks(modalities, missing)
    batch = batch_of(output, present)
    if own_ids:
        batch = replace(batch, ids=torch.arange(8) * 3 - 5)
    ours, theirs = total(SupCon(within=within)(batch)), total(plain(batch))
    inputs = [*output.embeds.values(), output.logit_scale]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


@pytest.mark.parametrize("within", [False, True])
def test_neither_a_margin_nor_queued_rows_matter(within: bool):
    batch = replace(batch_of(random_output()), ids=torch.tensor(IDS))
    other = replace(batch, margin=-0.5, queue={"text": QueuedRows(unit_rows(3, 5), torch.tensor([0, 1, 2]))})
    loss = SupCon(within=within)
    torch.testing.assert_close(total(loss(other)), total(loss(batch)), rtol=0, atol=0)
