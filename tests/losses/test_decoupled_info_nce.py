import math

import torch
from torch import Tensor

from hf_contrastive.losses import CLIPDivergence, total
from hf_contrastive.losses.decoupled_info_nce import DecoupledInfoNCE
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import Rows, assert_matches, gradients, masks, off_diagonal, on_every_batch


def pairs(modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(first, second) for i, first in enumerate(modalities) for second in modalities[i + 1 :]]


@on_every_batch
def test_matches_its_formula(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    def formula(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        values = []
        for pair in pairs(modalities):
            x, y = rows(*pair)
            repulsion = sum(off_diagonal(scale * z @ z.T).exp().sum(dim=1).log().mean() for z in (x, y)) / 2
            values.append(repulsion - scale * (x * y).sum(dim=1).mean())
        return sum(values) / len(values)

    assert_matches(DecoupledInfoNCE(), formula, modalities, missing)


@on_every_batch
def test_is_clip_divergence_at_weight_one_less_a_constant(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    output, present = random_output(modalities=modalities), masks(modalities, missing)
    batch = batch_of(output, present)
    numbers = [int(batch.complete(*pair).sum()) for pair in pairs(modalities)]
    constant = sum(math.log(n / (n - 1)) for n in numbers) / len(numbers)
    ours, theirs = total(DecoupledInfoNCE()(batch)), total(CLIPDivergence(weight=1)(batch))
    torch.testing.assert_close(ours + constant, theirs, rtol=0, atol=1e-9)

    inputs = [*output.embeds.values(), output.logit_scale]
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


def test_no_row_is_compared_with_another_of_the_other_modality():
    output = random_output()
    value = total(DecoupledInfoNCE()(batch_of(output)))
    # Turning one modality as a whole changes the alignment of pairs and nothing else.
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    turned = {"image": output.embeds["image"], "text": output.embeds["text"] @ turn}
    moved = total(DecoupledInfoNCE()(batch_of(output._replace(embeds=turned))))
    expected = [-output.logit_scale * (x["image"] * x["text"]).sum(dim=1).mean() for x in (output.embeds, turned)]
    torch.testing.assert_close(moved - value, expected[1] - expected[0], rtol=0, atol=1e-9)


def test_both_terms_are_logged():
    assert list(DecoupledInfoNCE()(batch_of(random_output()))) == ["alignment", "uniformity"]


def test_a_single_row_is_only_pulled():
    batch = batch_of(random_output(num_rows=1))
    expected = -batch.positive_logits("image", "text")[0]
    torch.testing.assert_close(total(DecoupledInfoNCE()(batch)), expected, rtol=0, atol=1e-12)
