from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.batch import QueuedRows
from hf_contrastive.losses import InfoNCE, get_loss, total
from hf_contrastive.testing import batch_of, random_output
from tests.functional.rows import unit_rows
from tests.losses.dense import MISSING, THREE, TWO, Rows, assert_matches, on_every_batch
from tests.losses.loops import IDS, OWN_IDS, Items, WithIds, formula, log_sum, mean, over_directions


WITH_NEGATIVES = (*THREE, "wrong_text", "worse_text")


def one_way(rows: Rows, query: str, key: str, scale: Tensor) -> Tensor:
    """Equation 4 of van den Oord et al. 2018 as a classification among the keys of complete items."""
    queries, keys = rows(query, key)
    return F.cross_entropy(scale * queries @ keys.T, torch.arange(len(queries)))


@on_every_batch
@pytest.mark.parametrize("keep_bytes", [0, 2**20])
def test_matches_cross_entropy_in_all_directions(
    modalities: tuple[str, ...], missing: dict[str, list[int]], keep_bytes: int
):
    def dense(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        ways = [(a, b) for a in modalities for b in modalities if a != b]
        return sum(one_way(rows, *way, scale) for way in ways) / len(ways)

    assert_matches(InfoNCE(keep_bytes=keep_bytes), dense, modalities, missing)


@on_every_batch
@pytest.mark.parametrize("anchor", ["image", "text"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_an_anchor_keeps_its_own_directions(
    modalities: tuple[str, ...], missing: dict[str, list[int]], anchor: str, symmetric: bool
):
    def dense(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        others = [m for m in modalities if m != anchor]
        ways = [(anchor, m) for m in others] + [(m, anchor) for m in others if symmetric]
        return sum(one_way(rows, *way, scale) for way in ways) / len(ways)

    assert_matches(InfoNCE(anchor=anchor, symmetric=symmetric), dense, modalities, missing)


@on_every_batch
@pytest.mark.parametrize("ids", [OWN_IDS, IDS], ids=["no ids", "ids"])
def test_own_rows_join_the_negatives(modalities: tuple[str, ...], missing: dict[str, list[int]], ids: list[int]):
    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        positive = items.logit((query, i), (key, i))
        return log_sum([positive, *items.negatives(query, key, i, within=True)]) - positive

    loss = InfoNCE(within=True) if ids is OWN_IDS else WithIds(InfoNCE(within=True))
    assert_matches(loss, formula(modalities, missing, over_directions(modalities, value), ids), modalities, missing)


@pytest.mark.parametrize("missing", [{}, MISSING | {"wrong_text": [1, 2, 3], "worse_text": list(range(8))}])
@pytest.mark.parametrize("anchor", [None, "image"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("ids", [OWN_IDS, IDS], ids=["no ids", "ids"])
def test_hard_negatives_join_the_keys_of_the_anchor_or_of_all(
    missing: dict[str, list[int]], anchor: str | None, symmetric: bool, within: bool, ids: list[int]
):
    if anchor is None and not symmetric:
        return
    hard = ("wrong_text", "worse_text")

    def value(items: Items, query: str, key: str, i: int) -> Tensor:
        positive = items.logit((query, i), (key, i))
        further = [items.logit((query, i), (m, j)) for m in hard for j in items.embeds[m] if anchor in (None, query)]
        return log_sum([positive, *items.negatives(query, key, i, within=within), *further]) - positive

    def whole(items: Items) -> Tensor:
        ways = [(q, k) for q in THREE for k in THREE if q != k]
        ways = [(q, k) for q, k in ways if anchor in (None, q) or (symmetric and k == anchor)]
        return mean(mean(value(items, q, k, i) for i in items.with_all(q, k)) for q, k in ways)

    # A list, as YAML gives.
    loss = InfoNCE(anchor=anchor, symmetric=symmetric, within=within, hard_negatives=list(hard))
    loss = loss if ids is OWN_IDS else WithIds(loss)
    assert_matches(loss, formula(WITH_NEGATIVES, missing, whole, ids), WITH_NEGATIVES, missing)


def test_hard_negatives_above_the_margin_are_left_out():
    output = random_output(modalities=(*TWO, "wrong_text"))
    batch = replace(batch_of(output), margin=0.1)
    x, y, z = (output.embeds[m] for m in ("image", "text", "wrong_text"))
    own = (x * y).sum(dim=1, keepdim=True)
    near = torch.cat([x @ y.T, x @ z.T], dim=1)
    kept = (near <= own + 0.1) | F.pad(torch.eye(8), (0, 8)).bool()
    assert not kept.all()
    logits = (output.logit_scale * near).masked_fill(~kept, -torch.inf)
    expected = F.cross_entropy(logits, torch.arange(8))
    loss = InfoNCE(anchor="image", symmetric=False, hard_negatives=["wrong_text"])
    torch.testing.assert_close(total(loss(batch)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("keep_bytes", [2**28, 0])
def test_one_direction_of_all_rows_is_cross_entropy(keep_bytes: int):
    output = random_output(modalities=THREE)
    values = []
    for batch in (batch_of(output), replace(batch_of(output), ids=torch.arange(8))):
        loss = total(InfoNCE(anchor="image", symmetric=False, keep_bytes=keep_bytes)(batch))
        grads = torch.autograd.grad(loss, [*output.embeds.values(), output.logit_scale])
        values.append([loss.detach(), *grads])
    # Ids of their own change nothing but the way.
    for one, other in zip(*values, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    others = [output.embeds[m] for m in THREE if m != "image"]
    logits = [output.logit_scale * output.embeds["image"] @ x.T for x in others]
    expected = torch.stack([F.cross_entropy(z, torch.arange(8)) for z in logits]).mean()
    torch.testing.assert_close(values[0][0], expected, rtol=0, atol=1e-12)


def test_queued_rows_are_negatives_in_one_direction_too():
    output = random_output()
    queued = unit_rows(3, 5, seed=4)
    batch = replace(batch_of(output), queue={"text": QueuedRows(queued, None), "image": QueuedRows(queued, None)})
    keys = torch.cat([output.embeds["text"], queued])
    expected = F.cross_entropy(output.logit_scale * output.embeds["image"] @ keys.T, torch.arange(8))
    loss = InfoNCE(anchor="image", symmetric=False)
    torch.testing.assert_close(total(loss(batch)), expected, rtol=0, atol=1e-9)


def test_a_list_of_hard_negatives_can_be_hashed_and_compared():
    loss = get_loss("info_nce", hard_negatives=["a", "b"])
    assert loss == InfoNCE(hard_negatives=("a", "b"))
    assert len({loss, InfoNCE(hard_negatives=("a", "b"))}) == 1


def test_hard_negatives_that_are_no_modality_are_refused():
    message = r"`hard_negatives` must be one of the modalities \['audio', 'image', 'text'\], but got 'video'"
    with pytest.raises(ValueError, match=message):
        InfoNCE(hard_negatives=["text", "video"])(batch_of(random_output(modalities=THREE)))


def test_a_single_name_of_hard_negatives_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"must be a list of modalities, but got 'text'\. Write \['text'\]\."):
        InfoNCE(hard_negatives="text")


def test_an_anchor_among_the_hard_negatives_is_refused():
    with pytest.raises(ValueError, match="`anchor` must not be one of `hard_negatives`, but 'text' is both"):
        InfoNCE(anchor="text", hard_negatives=["text"])


def test_hard_negatives_must_leave_a_pair():
    message = r"must leave two modalities to compare, but are \['text'\] of \['image', 'text'\]"
    with pytest.raises(ValueError, match=message):
        InfoNCE(hard_negatives=["text"])(batch_of(random_output()))


def test_one_direction_needs_an_anchor():
    with pytest.raises(ValueError, match="`symmetric=False` compares in one direction, so it needs `anchor`"):
        InfoNCE(symmetric=False)


def test_an_anchor_that_is_no_modality_is_refused():
    message = r"`anchor` must be one of the modalities \['audio', 'image', 'text'\], but got 'video'"
    with pytest.raises(ValueError, match=message):
        InfoNCE(anchor="video")(batch_of(random_output(modalities=THREE)))


def test_logs_one_term():
    terms = InfoNCE()(batch_of(random_output()))
    assert list(terms) == ["info_nce"]
    assert total(terms).item() == terms["info_nce"].item()
