"""The softmax family on several processes."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses import InfoNCE
from hf_contrastive.losses.dcl import DCL, DCLW
from hf_contrastive.losses.debiased import Debiased
from hf_contrastive.losses.decoupled_info_nce import DecoupledInfoNCE
from hf_contrastive.losses.hard_negative import HardNegative
from hf_contrastive.losses.nt_xent import NTXent
from hf_contrastive.losses.registry import ContrastiveLoss
from hf_contrastive.losses.sums import count_negatives
from hf_contrastive.losses.sup_con import SupCon
from hf_contrastive.losses.symile import Symile
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import MISSING, THREE, masks
from tests.losses.loops import WithIds


LOSSES = [
    DCL(),
    DCL(within=True),
    DCLW(),
    DCLW(within=True),
    Debiased(),
    Debiased(within=True),
    HardNegative(),
    HardNegative(beta=2, within=True),
    DecoupledInfoNCE(),
    NTXent(),
    SupCon(),
    SupCon(within=True),
    InfoNCE(within=True),
    InfoNCE(anchor="image", symmetric=False, within=True),
    Symile(),
]


@dataclass(frozen=True)
class WithThirdAsNegatives:
    """InfoNCE of two modalities with the third, where there is one, as hard negatives."""

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        return InfoNCE(within=True, hard_negatives=batch.modalities[2:])(batch)


@dataclass(frozen=True)
class WithMargin:
    """A loss that sees a batch with a margin."""

    loss: ContrastiveLoss

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        return self.loss(replace(batch, margin=0.1))


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    losses = [*LOSSES, WithThirdAsNegatives(), *map(WithIds, LOSSES), *map(WithMargin, LOSSES)]
    check_losses(losses, num_processes, tolerance=1e-9)


@pytest.mark.parametrize("counted", [[0, 3, 4], [7], []])
def test_the_mean_of_shares_is_that_of_the_counted_rows(counted: list[int]):
    output, values = random_output(), torch.arange(8.0, dtype=torch.float64)
    rows = torch.zeros(8, dtype=torch.bool)
    rows[counted] = True
    whole = batch_of(output)
    shares = []
    for rank in (0, 1):
        mine = slice(4 * rank, 4 * rank + 4)
        part = replace(whole, local={m: x[mine] for m, x in output.embeds.items()}, rank=rank)
        shares.append(part.mean_over(rows, values[mine]))
    expected = values[counted].mean() if counted else torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(sum(shares) / 2, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("with_ids", [False, True], ids=["counted from masks", "counted pair by pair"])
def test_negatives_are_the_other_rows_that_have_both_and_the_others_within(within: bool, with_ids: bool):
    batch = batch_of(random_output(modalities=THREE), masks(THREE, MISSING))
    # Ids of which no two are equal take nothing out, but are looked at.
    batch = replace(batch, ids=torch.arange(8)) if with_ids else batch
    pairs = batch.pairs()
    counts = count_negatives(batch, pairs, within=within)
    for (query, key), numbers in zip([way for pair in pairs for way in (pair, pair[::-1])], counts, strict=True):
        there = {m: set(range(8)) - set(MISSING.get(m, [])) for m in (query, key)}
        for i in there[query] & there[key]:
            others = len(there[query] & there[key] - {i}) + within * len(there[query] - {i})
            assert numbers[i] == others
