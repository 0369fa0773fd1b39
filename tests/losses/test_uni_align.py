import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.losses import AlignUniform, UniAlign, total
from hf_contrastive.losses.hoelder_divergence import HoelderDivergence
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import (
    MISSING,
    THREE,
    TWO,
    Rows,
    assert_matches,
    gradients,
    log_mean_potential,
    masks,
    on_every_batch,
)


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().sum(dim=1).mean()


def spread(rows: Rows, modalities: tuple[str, ...]) -> Tensor:
    return sum(log_mean_potential(*rows(m)) for m in modalities)


@on_every_batch
@pytest.mark.parametrize("anchor", ["all", "image", "text"])
def test_matches_the_paper_with_pairs_or_a_modality_as_anchor(
    modalities: tuple[str, ...], missing: dict[str, list[int]], anchor: str
):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        pairs = [
            (first, second)
            for i, first in enumerate(modalities)
            for second in modalities[i + 1 :]
            if anchor in ("all", first, second)
        ]
        align = sum(squared(*rows(*pair)) for pair in pairs) / len(pairs)
        return 0.8 * spread(rows, modalities) + 3 * align

    assert_matches(UniAlign(anchor=anchor, t=2.0, uniform_weight=0.8, align_weight=3), formula, modalities, missing)


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_matches_the_paper_with_the_centroid_as_anchor(modalities: tuple[str, ...]):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        embeds = rows(*modalities)
        centroid = F.normalize(sum(embeds) / len(embeds), dim=1)
        return spread(rows, modalities) + 4 * sum(squared(x, centroid) for x in embeds) / len(embeds)

    assert_matches(UniAlign(anchor="centroid", t=2.0, align_weight=4.0), formula, modalities, {})


def test_the_centroid_is_that_of_the_embeddings_an_item_has():
    output, present = random_output(modalities=THREE), masks(THREE, MISSING)
    means = []
    for m in THREE:
        distances = []
        for i in range(8):
            # A row's only embedding is its own centroid: it says nothing of alignment.
            if present[m][i] and sum(int(present[n][i]) for n in THREE) > 1:
                centroid = F.normalize(sum(output.embeds[n][i] for n in THREE if present[n][i]), dim=0)
                distances.append(math.dist(output.embeds[m][i].tolist(), centroid.tolist()) ** 2)
        means.append(sum(distances) / len(distances))
    terms = UniAlign(anchor="centroid", align_weight=1)(batch_of(output, present))
    assert terms["alignment"].item() == pytest.approx(sum(means) / 3, abs=1e-9)


@on_every_batch
@pytest.mark.parametrize("volume", ["determinant", "root"])
def test_matches_the_paper_with_volume(modalities: tuple[str, ...], missing: dict[str, list[int]], volume: str):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        pairs = [rows(first, second) for i, first in enumerate(modalities) for second in modalities[i + 1 :]]
        align = sum(squared(*pair) for pair in pairs) / len(pairs)
        complete = rows(*modalities)
        grams = [torch.stack(item) @ torch.stack(item).T for item in zip(*complete, strict=True)]
        values = [torch.linalg.det(gram) for gram in grams]
        if volume == "root":
            values = [(value + 1e-6).sqrt() for value in values]
        mean = sum(values) / len(values)
        centroids = F.normalize(sum(complete), dim=1)
        return spread(rows, modalities) + 4 * align + 0.3 * (mean + log_mean_potential(centroids))

    loss = UniAlign(t=2.0, align_weight=4.0, volume_weight=0.3, volume=volume)
    assert_matches(loss, formula, modalities, missing)


@pytest.mark.parametrize("missing", [{}, MISSING])
def test_of_two_modalities_is_align_uniform_with_twice_the_uniformity(missing: dict[str, list[int]]):
    output, present = random_output(), masks(TWO, missing)
    losses = [UniAlign(t=2.0, align_weight=3, uniform_weight=0.7), AlignUniform(align_weight=3, uniform_weight=1.4)]
    ours, theirs = (total(loss(batch_of(output, present))) for loss in losses)
    inputs = list(output.embeds.values())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(ours, inputs), gradients(theirs, inputs), rtol=0, atol=1e-9)


def test_an_anchor_that_is_no_modality_is_refused():
    with pytest.raises(
        ValueError,
        match=r"`anchor` must be 'all', 'centroid', 'random' or one of the modalities \['image', 'text'\], but got 'ce",
    ):
        UniAlign(anchor="centre")(batch_of(random_output()))


def test_terms_of_the_volume_are_logged_where_it_has_a_weight():
    batch = batch_of(random_output())
    assert list(UniAlign()(batch)) == ["uniformity", "alignment"]
    assert list(UniAlign(volume_weight=1)(batch)) == ["uniformity", "alignment", "volume", "centroid_uniformity"]


def test_opposite_embeddings_of_an_item_leave_the_centroids_gradient_bounded():
    output = random_output()
    embeds = {"image": output.embeds["image"], "text": (-output.embeds["image"]).detach().requires_grad_()}
    value = total(UniAlign(anchor="centroid")(batch_of(output._replace(embeds=embeds))))
    for gradient in gradients(value, list(embeds.values())):
        assert gradient.abs().max().item() < 1e3


def test_a_random_anchor_is_a_modality_of_each_step_all_of_them_in_turn():
    batch = batch_of(random_output(modalities=THREE))
    by_anchor = {UniAlign(anchor=m)(batch)["alignment"].item(): m for m in THREE}
    drawn = []
    for step in range(60):
        now = replace(batch, progress=step / 60)
        value = UniAlign(anchor="random")(now)["alignment"]
        assert UniAlign(anchor="random")(now)["alignment"] == value
        drawn.append(by_anchor[value.item()])
    assert min(drawn.count(m) for m in THREE) > 10
    other = [UniAlign(anchor="random", seed=1)(replace(batch, progress=i / 60))["alignment"] for i in range(60)]
    assert drawn != [by_anchor[value.item()] for value in other]


@on_every_batch
def test_the_hoelder_preset_has_the_weights_of_the_bound(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    batch, count = batch_of(random_output(modalities=modalities), masks(modalities, missing)), len(modalities)
    weighted = UniAlign(t=3.0, uniform_weight=1 / count, align_weight=(count - 1) * 3.0)
    torch.testing.assert_close(UniAlign(t=3.0, preset="hoelder")(batch), weighted(batch), rtol=0, atol=1e-12)


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_the_hoelder_preset_bounds_the_divergence(modalities: tuple[str, ...]):
    """papers.md 5.3: kernels are at most 1, and a density at a row is at least its partner's share of it."""
    batch, count = batch_of(random_output(modalities=modalities)), len(modalities)
    bound = total(UniAlign(t=2.0, preset="hoelder")(batch)) + (count - 1) * math.log(8)
    assert total(HoelderDivergence(t=2.0)(batch)) <= bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume": "log"}, r"^`volume` must be 'determinant' or 'root', but got 'log'\.$"),
        ({"preset": "holder"}, r"^`preset` must be 'hoelder' or None, but got 'holder'\.$"),
        (
            {"preset": "hoelder", "align_weight": 3.0},
            r"sets `uniform_weight` and `align_weight`, but got 1\.0 and 3\.0",
        ),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        UniAlign(**options)


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [2, 4])
def test_the_further_options_mean_the_same_on_several_processes_as_on_one(num_processes: int):
    losses = [
        UniAlign(anchor="random"),
        UniAlign(preset="hoelder", volume_weight=0.5, volume="root"),
    ]
    check_losses(losses, num_processes, tolerance=1e-9)
