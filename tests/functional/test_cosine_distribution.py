import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from hf_contrastive.functional import cosine_histogram, cosine_quantiles, cosine_statistics, matched_auc
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


X_IDS, Y_IDS = torch.tensor([4, 7, 4, 9, 1]), torch.tensor([7, 4, 4, 4, 9, 9, 2])
SAME = X_IDS.unsqueeze(1) == Y_IDS


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_the_area_is_that_of_scikit_learn(noise: float, tile: int):
    x = unit_rows(30, 5)
    y = x + noise * random_rows(30, 5, seed=1)
    y = y / y.norm(dim=1, keepdim=True)
    expected = roc_auc_score(torch.eye(30).flatten(), (x @ y.T).flatten())
    assert matched_auc(2 * x, y).item() == pytest.approx(expected, abs=1e-12)


def test_the_area_with_ids_is_that_of_all_pairs():
    x, y = unit_rows(5, 3), unit_rows(7, 3, seed=1)
    expected = roc_auc_score(SAME.flatten(), (x @ y.T).flatten())
    assert matched_auc(x, y, x_ids=X_IDS, y_ids=Y_IDS).item() == pytest.approx(expected, abs=1e-12)


def test_rows_that_tell_nothing_are_at_chance():
    same = torch.ones(6, 3) / 3
    assert matched_auc(same, same).item() == 0.5
    # Its standard deviation over seeds is about 0.013 at this size.
    assert matched_auc(unit_rows(500, 8), unit_rows(500, 8, seed=1)).item() == pytest.approx(0.5, abs=0.05)


def test_normal_cosines_have_the_area_that_follows_from_d_prime():
    x = unit_rows(400, 64)
    y = x + 0.5 * random_rows(400, 64, seed=1)
    expected = norm.cdf(cosine_statistics(x, y).d_prime.item() / math.sqrt(2))
    assert matched_auc(x, y).item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_quantiles_are_those_of_numpy(scale: float, tile: int):
    x, y = random_rows(40, 4) * scale, random_rows(40, 4, seed=1)
    shares = (0.0, 0.01, 0.5, 0.77, 1.0)
    products = (x @ y.T).numpy()
    same = np.eye(40, dtype=bool)
    actual = cosine_quantiles(x, y, shares, normalize=False)
    most = float(x.norm(dim=1).max() * y.norm(dim=1).max())
    for values, expected, tolerance in (
        (actual.matched, products[same], 1e-12),
        (actual.unmatched, products[~same], 1.3e-7),
    ):
        assert values.tolist() == pytest.approx(
            np.quantile(expected, shares, method="inverted_cdf").tolist(), abs=tolerance * most
        )


def test_quantiles_of_unit_rows_and_of_many_equal_cosines():
    x, y = unit_rows(5, 3), unit_rows(7, 3, seed=1)
    expected = np.quantile((x @ y.T)[~SAME].numpy(), [0.1, 0.9], method="inverted_cdf").tolist()
    actual = cosine_quantiles(5 * x, y, [0.1, 0.9], x_ids=X_IDS, y_ids=Y_IDS)
    assert actual.unmatched.tolist() == pytest.approx(expected, abs=1.3e-7)
    # Cosines of 0 stand at the edge of a part.
    orthogonal = cosine_quantiles(torch.eye(4), torch.eye(4), [0.0, 0.5, 1.0])
    assert orthogonal.matched.tolist() == [1, 1, 1]
    assert orthogonal.unmatched.tolist() == pytest.approx([0, 0, 0], abs=1.3e-7)


def test_the_histogram_is_that_of_numpy(tile: int):
    x, y = unit_rows(5, 3), unit_rows(7, 3, seed=1)
    actual = cosine_histogram(2 * x, y, bins=8, x_ids=X_IDS, y_ids=Y_IDS)
    for counts, kept in ((actual.matched, SAME), (actual.unmatched, ~SAME)):
        assert counts.tolist() == np.histogram((x @ y.T)[kept].numpy(), bins=8, range=(-1, 1))[0].tolist()
    assert cosine_histogram(torch.eye(2), torch.eye(2), bins=2).matched.tolist() == [0, 2]


@pytest.mark.parametrize("measure", [matched_auc, cosine_quantiles, cosine_histogram])
def test_memory_is_that_of_rows_and_tiles(measure, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 256)
    x, y = unit_rows(2048, 16).float(), unit_rows(2048, 16, seed=1).float()
    with LargestTensor() as memory:
        measure(x, y)
    assert memory.largest <= max(2 * 256**2, 2 * 2048 * 16)


def test_refuses_shares_and_bins_that_are_none():
    x = unit_rows(4, 3)
    with pytest.raises(ValueError, match=r"`quantiles` must be shares from 0 to 1, but got \[0\.5, 1\.5\]"):
        cosine_quantiles(x, x, [0.5, 1.5])
    with pytest.raises(ValueError, match="`bins` must be at least 1, but got 0"):
        cosine_histogram(x, x, bins=0)


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_the_scale_of_raw_rows_changes_no_order(scale: float):
    x, y = random_rows(30, 8).float(), random_rows(30, 8, seed=1).float()
    own, scaled = (matched_auc(x * s, (x + y) * s, normalize=False) for s in (1.0, scale))
    assert float(scaled) == pytest.approx(float(own), abs=1e-9)
    assert float(own) > 0.6
