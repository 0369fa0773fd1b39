"""What of a batch goes to the logs."""

import pytest
import torch

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.functional import uniformity
from hf_contrastive.losses import get_loss
from hf_contrastive.metrics import geometry_report, retrieval_report
from hf_contrastive.training import measure
from tests.functional.rows import unit_rows


X, Y = unit_rows(24, 6), unit_rows(24, 6, seed=1)


def batch(**fields: torch.Tensor) -> ContrastiveBatch:
    return ContrastiveBatch.whole({"image": X, "text": Y}, torch.tensor(10.0, dtype=torch.float64), **fields)


def test_geometry_and_retrieval_are_those_of_the_reports():
    expected = geometry_report({"image": X, "text": Y})
    expected |= retrieval_report({"image": X, "text": Y}, ks=(1,), median=False)
    assert measure.describe(batch()) == pytest.approx(expected | {"logit_scale": 10.0})
    assert measure.describe(batch(), geometry=False) == {"logit_scale": 10.0}


def test_rows_of_one_id_are_matches_of_each_other():
    ids = torch.arange(24) // 2
    expected = geometry_report({"image": X, "text": Y}, ids=ids)
    found = measure.describe(batch(ids=ids))
    assert found["geometry/matched_cosine_mean_image_text"] == expected["geometry/matched_cosine_mean_image_text"]
    plain = geometry_report({"image": X, "text": Y})
    assert found["geometry/matched_cosine_mean_image_text"] != plain["geometry/matched_cosine_mean_image_text"]


def test_a_large_batch_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "LOGGED_ROWS", 10)
    found = measure.describe(batch())
    rows = torch.randperm(24, generator=torch.Generator().manual_seed(0))[:10].sort().values
    assert found["geometry/quadratic_rows_image"] == 10
    assert found["geometry/uniformity_image"] == pytest.approx(uniformity(X[rows]).item(), rel=1e-9)
    assert found == measure.describe(batch()), "The sample is the same at every log."


def test_an_evaluation_has_the_bias_where_the_loss_reads_it():
    output = EncoderOutput(
        {"image": X, "text": Y}, torch.tensor(10.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)
    )
    assert measure.measure(get_loss("siglip"), output, pool_size=12)["logit_bias"] == -3.0
    found = measure.measure(get_loss("clip"), output, pool_size=12)
    assert "logit_bias" not in found
    assert found["logit_scale"] == 10.0
