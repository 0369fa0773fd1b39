import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.losses import get_loss, total
from hf_contrastive.losses.info_nce import InfoNCE
from hf_contrastive.losses.nt_xent import NTXent
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import MISSING, TWO, Rows, assert_matches, gradients, masks, on_every_batch
from tests.losses.loops import IDS, OWN_IDS, Items, WithIds, formula, log_sum, mean


@on_every_batch
@pytest.mark.parametrize("ids", [OWN_IDS, IDS], ids=["no ids", "ids"])
def test_matches_a_loop_over_rows_and_their_other_views(
    modalities: tuple[str, ...], missing: dict[str, list[int]], ids: list[int]
):
    def value(items: Items) -> Tensor:
        views = []
        for m in modalities:
            rows = []
            for i in items.embeds[m]:
                partners = [n for n in modalities if n != m and i in items.embeds[n]]
                if not partners:
                    continue
                positives = [items.logit((m, i), (n, i)) for n in partners]
                keys = items.negatives(m, partners[0], i, within=True) + positives
                for n in partners[1:]:
                    keys += items.negatives(m, n, i, within=False)
                rows.append(sum(log_sum(keys) - positive for positive in positives) / len(positives))
            views.append(mean(rows))
        return mean(views)

    loss = NTXent() if ids is OWN_IDS else WithIds(NTXent())
    assert_matches(loss, formula(modalities, missing, value, ids), modalities, missing)


def test_matches_equation_1_of_the_paper_for_two_views():
    """Chen et al. 2020: views 2k-1 and 2k of item k are neighbors in one matrix of 2N rows."""

    def paper(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        z = torch.stack(rows(*TWO), dim=1).flatten(0, 1)
        logits = (scale * z @ z.T).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        return F.cross_entropy(logits, torch.arange(len(z)) ^ 1)

    assert_matches(NTXent(), paper, TWO, {})


@pytest.mark.parametrize("missing", [{}, MISSING])
def test_of_two_views_is_info_nce_with_own_rows(missing: dict[str, list[int]]):
    output, present = random_output(), masks(TWO, missing)
    ours, theirs = (total(loss(batch_of(output, present))) for loss in (NTXent(), InfoNCE(within=True)))
    inputs = [*output.embeds.values(), output.logit_scale]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


def test_is_registered_under_both_names():
    assert get_loss("simclr") == get_loss("nt_xent") == NTXent()
