from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.losses import total
from hf_contrastive.losses.gram_volume import GramVolume
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import MISSING, THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch


EPS = 1e-4


def volumes(anchor: Tensor, others: list[Tensor], eps: float = EPS) -> Tensor:
    """N x N volumes, each by the determinant of its own Gram matrix, as the paper writes it."""
    n = len(anchor)
    stacks = torch.stack([torch.stack([a, *(o[j] for o in others)]) for a in anchor for j in range(n)])
    return (torch.linalg.det(stacks @ stacks.mT) + eps).sqrt().view(n, n)


def contrast(logits: Tensor) -> Tensor:
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@on_every_batch
@pytest.mark.parametrize("anchor", [None, "image", "text"])
def test_matches_the_paper_with_every_gram_matrix(
    modalities: tuple[str, ...], missing: dict[str, list[int]], anchor: str | None
):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        embeds = dict(zip(modalities, rows(*modalities), strict=True))
        anchors = modalities if anchor is None else [anchor]
        values = [contrast(-scale * volumes(embeds[a], [embeds[m] for m in modalities if m != a])) for a in anchors]
        return sum(values) / len(values)

    assert_matches(GramVolume(anchor=anchor, eps=EPS), formula, modalities, missing)


def test_with_two_modalities_contrasts_by_the_sine_of_the_angle():
    output = random_output()
    cosines = output.embeds["image"] @ output.embeds["text"].T
    expected = contrast(-output.logit_scale * (1 - cosines**2 + 1e-6).sqrt())
    torch.testing.assert_close(total(GramVolume()(batch_of(output))), expected, rtol=0, atol=1e-9)


def test_does_not_tell_an_embedding_from_its_opposite():
    output = random_output(modalities=THREE)
    flipped = output._replace(embeds=output.embeds | {"text": -output.embeds["text"]})
    values = [total(GramVolume()(batch_of(x))) for x in (output, flipped)]
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)


def test_items_of_one_id_are_no_negatives_of_each_other():
    output = random_output()
    ids = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])
    logits = -output.logit_scale * volumes(output.embeds["image"], [output.embeds["text"]])
    same = (ids.unsqueeze(1) == ids) & ~torch.eye(8, dtype=torch.bool)
    expected = contrast(logits.masked_fill(same, -torch.inf))
    # The margin, of cosines, would leave all pairs out.
    batch = replace(batch_of(output), ids=ids, margin=-2.0)
    torch.testing.assert_close(total(GramVolume(eps=EPS)(batch)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_is_zero_with_a_gradient_where_no_item_is_complete(modalities: tuple[str, ...]):
    output = random_output(modalities=modalities)
    value = total(GramVolume()(batch_of(output, masks(modalities, {"text": list(range(8))}))))
    assert value.item() == 0
    assert all(grad.eq(0).all() for grad in gradients(value, list(output.embeds.values())))


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_aligned_tuples_have_the_least_value_and_finite_gradients(modalities: tuple[str, ...]):
    output = random_output(modalities=modalities)
    aligned = output._replace(embeds={m: output.embeds["image"].detach().clone().requires_grad_() for m in modalities})
    value = total(GramVolume()(batch_of(aligned)))
    assert value < total(GramVolume()(batch_of(output)))
    assert all(grad.isfinite().all() for grad in gradients(value, list(aligned.embeds.values())))


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_gradients_match_finite_differences(modalities: tuple[str, ...]):
    output = random_output(num_rows=4, width=4, modalities=modalities)

    def value(scale: Tensor, *embeds: Tensor) -> Tensor:
        other = output._replace(embeds=dict(zip(modalities, embeds, strict=True)), logit_scale=scale)
        return total(GramVolume(eps=EPS)(batch_of(other)))

    assert gradcheck(value, (output.logit_scale, *output.embeds.values()))


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    check_losses([GramVolume(), GramVolume(anchor="text", eps=EPS)], num_processes, tolerance=1e-9)


def test_both_directions_are_logged():
    assert list(GramVolume()(batch_of(random_output(), masks(TWO, MISSING)))) == ["anchor_to_tuple", "tuple_to_anchor"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, r"^`eps` must be positive and finite, but got 0\.0\.$"),
        ({"anchor": "audio"}, r"^`anchor` must be one of the modalities \['image', 'text'\], but got 'audio'\.$"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        GramVolume(**options)(batch_of(random_output()))
