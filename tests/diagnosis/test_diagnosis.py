"""The whole diagnosis: what it holds, that it is the same twice, what it finds in clouds that are known."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hf_contrastive
from hf_contrastive.diagnosis import Diagnosis, diagnose, write_json
from hf_contrastive.diagnosis.options import DatasetOptions
from hf_contrastive.diagnosis.sources import open_source, same_rows
from hf_contrastive.functional import spectrum
from hf_contrastive.metrics import geometry_report, retrieval_report
from tests.conftest import make_pairs
from tests.diagnosis.conftest import ROWS, WIDTH, clouds


def rules(diagnosis: Diagnosis) -> set[str]:
    return {finding.rule for finding in diagnosis.findings}


def test_measures_have_the_names_and_values_of_logs(diagnosis: Diagnosis):
    expected = geometry_report(clouds(), separability=True) | retrieval_report(clouds(), detailed=True)
    assert diagnosis.metrics == pytest.approx(expected)
    assert (diagnosis.rows, diagnosis.items, diagnosis.width) == (ROWS, ROWS, WIDTH)
    assert diagnosis.modalities == ("image", "text")
    assert diagnosis.spectra["text"] == pytest.approx(spectrum(clouds()["text"]).tolist())
    assert torch.equal(diagnosis.embeds["image"], clouds()["image"])


def test_a_gap_is_found_and_a_closed_one_too(diagnosis: Diagnosis):
    assert diagnosis.compared is not None
    assert "open_gap" in rules(diagnosis)
    assert "closed_gap" in rules(diagnosis.compared)
    assert [one.name for one in diagnosis.all] == ["embeddings", "embeddings"]


def test_findings_stand_in_the_order_of_their_severity(diagnosis: Diagnosis):
    order = ["problem", "warning", "note", "good"]
    places = [order.index(finding.severity) for finding in diagnosis.findings]
    assert places == sorted(places)


def test_unmatched_rows_are_found(quick: None):
    x = clouds(rows=200, width=4)
    found = diagnose({"image": x["image"], "text": x["text"].roll(1, dims=0)})
    assert found.findings[0].rule == "no_retrieval"


def test_a_collapsed_modality_is_found(quick: None):
    found = diagnose({"image": torch.ones(30, 4), "text": clouds(rows=30, width=4)["text"]})
    assert {"collapse", "cone", "copies"} <= {f.rule for f in found.findings if f.about == "image"}
    assert not {"collapse", "cone", "copies"} & {f.rule for f in found.findings if f.about == "text"}


def test_ids_count_in_everything_that_ranks(quick: None):
    x = clouds(rows=20)
    doubled = {"image": x["image"].repeat_interleave(2, 0), "text": x["text"].repeat_interleave(2, 0) + 0.01}
    ids = torch.arange(20).repeat_interleave(2)
    found = diagnose(doubled, ids=ids)
    # Copies that are known as such count once in what describes a cloud as well.
    geometry = geometry_report(doubled, ids=ids, separability=True)
    assert {name: found.metrics[name] for name in geometry} == pytest.approx(geometry)
    assert (found.rows, found.items) == (40, 20)
    assert "copies" not in rules(found)
    assert found.metrics["retrieval/image_candidates"] == 20


def test_copies_without_ids_are_found(quick: None):
    assert "copies" in rules(diagnose({m: x.repeat_interleave(2, 0) for m, x in clouds(rows=12).items()}))


def test_three_modalities_have_three_pairs(quick: None):
    x = clouds(rows=20)
    found = diagnose(x | {"audio": x["text"] + 0.3})
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("audio", "image"),
        ("audio", "text"),
        ("image", "text"),
    ]
    assert set(found.projection.points) == {"audio", "image", "text"}
    with pytest.raises(ValueError, match=r"no pair of 'image' and 'depth' among the modalities \['audio', 'image'"):
        found.pair("image", "depth")


def test_it_is_the_same_twice(quick: None):
    first, second = (diagnose(clouds(rows=24)).to_dict() for _ in range(2))
    assert first == second


def test_it_cannot_be_changed(diagnosis: Diagnosis):
    with pytest.raises(FrozenInstanceError):
        diagnosis.rows = 1


def test_json_holds_all_numbers_and_no_embeddings(diagnosis: Diagnosis, tmp_path: Path):
    write_json(diagnosis, tmp_path / "diagnosis.json")
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert found["metrics"] == diagnosis.metrics
    assert "embeds" not in found
    pair = found["pairs"][0]
    assert len(pair["trials"]["shift_curve"]) == 21
    assert pair["composition"]["clouds"]["total"] == diagnosis.pairs[0].composition.clouds["total"]
    np.testing.assert_allclose(found["projection"]["points"]["image"], diagnosis.projection.points["image"])
    assert found["compared"]["metrics"] == diagnosis.compared.metrics


def test_files_are_compared_row_by_row_whatever_they_are_called(quick: None, tmp_path: Path):
    for name, x in (clouds(rows=24) | {f"new_{m}": z for m, z in clouds(rows=24, gap=0.0).items()}).items():
        np.save(tmp_path / f"{name}.npy", x.numpy())
    files = [[str(tmp_path / f"{prefix}{m}.npy") for m in ("image", "text")] for prefix in ("", "new_")]
    found = hf_contrastive.diagnose(files[0], compare=files[1])
    assert found.compared.name == "new_image.npy + new_text.npy"
    assert found.compared.metrics.keys() == found.metrics.keys()


def test_modalities_of_other_names_are_compared_in_the_order_that_was_given():
    x = clouds(rows=24)
    own, other = (
        open_source(given, DatasetOptions())
        for given in (x, {"photo": x["image"].clone(), "caption": x["text"].clone()})
    )
    _, renamed = same_rows(own, other)
    assert {m: torch.equal(renamed.embeds[m], own.embeds[m]) for m in x} == {"image": True, "text": True}
    one_known = open_source({"words": x["text"], "image": x["image"]}, DatasetOptions())
    assert torch.equal(same_rows(own, one_known)[1].embeds["text"], own.embeds["text"])


def test_ids_that_one_source_knows_are_those_of_both_and_others_are_refused():
    plain = open_source(clouds(rows=24), DatasetOptions())
    ids = torch.arange(24) // 2
    for own, other in ((plain, replace(plain, ids=ids)), (replace(plain, ids=ids), plain)):
        assert all(torch.equal(source.ids, ids) for source in same_rows(own, other))
    renumbered = replace(plain, ids=11 - ids)
    assert torch.equal(same_rows(replace(plain, ids=ids), renumbered)[1].ids, renumbered.ids)
    with pytest.raises(ValueError, match="other rows show the same"):
        same_rows(replace(plain, ids=ids), replace(plain, ids=torch.arange(24) % 12))


def test_a_model_and_files_are_compared_on_the_rows_of_a_dataset(quick: None, saved_clip: Path, tmp_path: Path):
    x = clouds(rows=24)
    options = {"ids": list(range(24)), "cache_dir": tmp_path, "progress": False}
    found = hf_contrastive.diagnose(str(saved_clip), make_pairs(24), compare=x, **options)
    back = hf_contrastive.diagnose(x, make_pairs(24), compare=str(saved_clip), **options)
    assert back.metrics == found.compared.metrics
    assert back.compared.metrics == found.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"compare": clouds(rows=25)},
            r"the same rows, but 'embeddings' has \['image', 'text'\] of 24 rows and .* 25 rows",
        ),
        (
            {"compare": {m: x[:, :1] for m, x in clouds(rows=24).items()}},
            "two columns or more, but 'embeddings' has one",
        ),
        ({"rows": 5}, "has no option rows. Its options: all_captions, batch_size, cache_dir"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        diagnose(clouds(rows=24), **options)
    with pytest.raises(ValueError, match="each needs 5 items"):
        diagnose(clouds(rows=9))
