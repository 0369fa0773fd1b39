import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.losses import CLIP, total
from hf_contrastive.losses.symile import Symile
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import MISSING, THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch
from tests.losses.loops import IDS, Items, formula


FOUR = ("audio", "image", "text", "video")


@pytest.mark.parametrize("modalities", [TWO, THREE, FOUR], ids=["two", "three", "four"])
@pytest.mark.parametrize("missing", [{}, MISSING], ids=["all", "some missing"])
def test_matches_a_softmax_over_products(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    """Saporta et al. 2024, with the mixed tuples of the docstring, written with modulo."""

    def paper(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        embeds = dict(zip(modalities, rows(*modalities), strict=True))
        values = []
        for anchor in modalities:
            order = embeds[anchor].sum(dim=1).argsort()
            ordered = {m: x[order] for m, x in embeds.items()}
            others = [m for m in modalities if m != anchor]
            n = len(order)
            keys = torch.ones_like(ordered[anchor])
            for place, m in enumerate(others):
                keys = keys * torch.stack([ordered[m][(j + place * (n // len(others))) % n] for j in range(n)])
            own = torch.ones_like(keys)
            for m in others:
                own = own * ordered[m]
            logits = ordered[anchor] @ keys.T
            # As in the authors' code, the positive stands on the diagonal.
            logits = torch.where(torch.eye(n, dtype=torch.bool), (ordered[anchor] * own).sum(dim=1), logits)
            values.append(F.cross_entropy(scale * logits, torch.arange(n)))
        return sum(values) / len(values)

    assert_matches(Symile(), paper, modalities, missing)


@pytest.mark.parametrize("missing", [{}, MISSING])
@pytest.mark.parametrize("ids", [None, IDS])
@pytest.mark.parametrize("margin", [None, 0.1])
def test_of_two_modalities_is_clip(missing: dict[str, list[int]], ids: list[int] | None, margin: float | None):
    output, present = random_output(), masks(TWO, missing)
    batch = replace(batch_of(output, present), ids=None if ids is None else torch.tensor(ids), margin=margin)
    ours, theirs = total(Symile()(batch)), total(CLIP()(batch))
    inputs = [*output.embeds.values(), output.logit_scale]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


@on_every_batch
def test_ids_take_out_keys_all_of_whose_rows_show_what_the_query_does(
    modalities: tuple[str, ...], missing: dict[str, list[int]]
):
    # Two kinds of items, so that some mixed tuples are of one kind.
    ids = [0, 1, 0, 0, 1, 1, 0, 0]

    def value(items: Items) -> Tensor:
        there = items.with_all(*modalities)
        values = []
        for anchor in modalities:
            order = sorted(there, key=lambda i: items.embeds[anchor][i].sum().item())
            others = [m for m in modalities if m != anchor]
            step = len(order) // len(others)
            for i in order:
                positive = (
                    items.scale * math.prod((items.embeds[m][i] for m in others), start=items.embeds[anchor][i]).sum()
                )
                logits = [positive]
                for j in range(len(order)):
                    rows = [order[(j + place * step) % len(order)] for place in range(len(others))]
                    if rows[0] != i and any(ids[row] != ids[i] for row in rows):
                        key = math.prod(
                            (items.embeds[m][row] for m, row in zip(others, rows, strict=True)),
                            start=items.embeds[anchor][i],
                        )
                        logits.append(items.scale * key.sum())
                values.append(torch.stack(logits).exp().sum().log() - positive)
        return sum(values) / len(values)

    def loss(batch):
        return Symile()(replace(batch, ids=torch.tensor(ids)))

    assert_matches(loss, formula(modalities, missing, value, ids), modalities, missing)


@pytest.mark.parametrize("modalities", [TWO, THREE, FOUR])
def test_the_order_of_examples_does_not_matter(modalities: tuple[str, ...]):
    output, present = random_output(modalities=modalities), masks(modalities, MISSING)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    shuffled = output._replace(embeds={m: x[order] for m, x in output.embeds.items()})
    moved = batch_of(shuffled, {m: x[order] for m, x in present.items()})
    torch.testing.assert_close(Symile()(moved), Symile()(batch_of(output, present)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_give_a_finite_value(rows: int):
    assert total(Symile()(batch_of(random_output(num_rows=rows, modalities=FOUR)))).isfinite()


def test_learns_what_no_pair_of_modalities_tells():
    """Signs of which each is the product of the other two: pairs are independent, the triple is not."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 2, (64, 3), generator=generator).double() * 2 - 1 for _ in range(2))
    embeds = {"audio": first, "image": second, "text": first * second}
    embeds = {m: (x / 3**0.5).requires_grad_() for m, x in embeds.items()}
    related = batch_of(random_output(modalities=THREE)._replace(embeds=embeds, logit_scale=torch.tensor(9.0).double()))
    mixed = shifted(related.local)
    unrelated = replace(related, local=mixed, world=mixed)
    gain = {type(loss).__name__: total(loss(unrelated)) - total(loss(related)) for loss in (Symile(), CLIP())}
    assert gain["Symile"] > 2
    assert abs(gain["CLIP"]) < 1


def shifted(embeds: dict[str, Tensor]) -> dict[str, Tensor]:
    return {m: x.roll(place, dims=0) for place, (m, x) in enumerate(embeds.items())}
