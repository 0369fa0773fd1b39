"""Curves behind the plots, against the functions and closed forms that they come from."""

from dataclasses import replace

import pytest
import torch

from hf_contrastive.diagnosis import Diagnosis, diagnose
from hf_contrastive.diagnosis.curves import axis_of, search_of, shape_of
from hf_contrastive.functional import k_occurrences
from tests.diagnosis.conftest import ROWS, WIDTH, clouds


def test_spectra_are_shares_beside_those_of_a_round_cloud(diagnosis: Diagnosis):
    shape = shape_of(diagnosis, "image")
    assert float(shape.spectrum.sum()) == pytest.approx(1)
    assert float(shape.isotropic.sum()) == pytest.approx(1)
    assert float(shape.isotropic[0]) < float(shape.spectrum[0])
    assert (shape.spectrum.diff() <= 0).all()


def test_searches_are_those_of_each_direction(diagnosis: Diagnosis):
    search = search_of(diagnosis, "text", "image")
    assert search is not None
    found = k_occurrences(clouds()["text"], clouds()["image"], k=search.k)
    assert search.occurrences.sort().values.tolist() == pytest.approx(found.sort().values.tolist())
    assert float(search.occurrences.sum()) == search.k * ROWS
    # Bins are of equal size, so that their mean is the recall of all.
    assert float(search.bins.recall.mean()) == pytest.approx(diagnosis.metrics["retrieval/text_to_image_recall@1"])


def test_rows_that_repeat_are_searched_once(quick: None):
    x = clouds(rows=20)
    found = diagnose({m: z.repeat_interleave(2, 0) for m, z in x.items()}, ids=torch.arange(20).repeat_interleave(2))
    search = search_of(found, "image", "text")
    assert search is not None
    assert len(search.occurrences) == 20


def test_few_rows_have_no_searches(diagnosis: Diagnosis):
    few = replace(diagnosis, rows=9, embeds={m: x[:9] for m, x in diagnosis.embeds.items()})
    assert search_of(few, "image", "text") is None


def test_the_axis_goes_through_both_centers(diagnosis: Diagnosis):
    pair = diagnosis.pairs[0]
    axis = axis_of(diagnosis, pair)
    assert axis is not None
    centers = [torch.nn.functional.normalize(x, dim=1).mean(dim=0) for x in clouds().values()]
    angle = torch.rad2deg(torch.arccos(torch.nn.functional.cosine_similarity(*centers, dim=0)))
    assert axis.second_center == pytest.approx(float(angle), abs=1e-3)
    assert axis.temperature == pair.trials.temperatures.best
    for values in axis.potentials.values():
        assert float(values.min()) == 0
        assert float(values[0]) == pytest.approx(float(values[-1]), abs=1e-4)
    assert all(barrier >= 0 for barrier in axis.barriers.values())


def test_centers_nearer_than_a_step_of_the_circle_have_an_axis(diagnosis: Diagnosis):
    torch.manual_seed(0)
    cloud = torch.ones(ROWS, WIDTH) + 0.01 * torch.randn(ROWS, WIDTH)
    moved = cloud + 0.001 * torch.arange(WIDTH)
    axis = axis_of(replace(diagnosis, embeds={"image": cloud, "text": moved}), diagnosis.pairs[0])
    assert axis is not None
    assert 0 < axis.second_center < 360 / (len(axis.angles) - 1)
    assert all(0 <= barrier < 0.01 for barrier in axis.barriers.values())


def test_centers_on_one_line_have_no_axis(diagnosis: Diagnosis):
    x = clouds()["image"]
    assert axis_of(replace(diagnosis, embeds={"image": x, "text": -x}), diagnosis.pairs[0]) is None
