import numpy as np
import pytest
import torch

from hf_contrastive.functional import concentration, softmax_perplexity
from tests.functional.rows import unit_rows


@pytest.mark.parametrize("scale", [0.5, 20.0])
def test_it_is_the_exponential_of_numpys_entropy(scale: float, monkeypatch: pytest.MonkeyPatch):
    queries, keys = unit_rows(11, 4), unit_rows(7, 4, seed=1)
    weights = np.exp(scale * queries.numpy() @ keys.numpy().T)
    shares = weights / weights.sum(axis=1, keepdims=True)
    expected = np.exp(-(shares * np.log(shares)).sum(axis=1))
    monkeypatch.setattr(concentration, "CHUNK_LOGITS", 21)  # three queries at a time
    np.testing.assert_allclose(softmax_perplexity(queries, keys, scale).numpy(), expected, rtol=1e-10)


def test_it_lies_between_one_and_all():
    x = unit_rows(9, 5)
    assert softmax_perplexity(x, x, 1e4) == pytest.approx(torch.ones(9).double(), abs=1e-6)
    assert softmax_perplexity(x, x, 1e-6) == pytest.approx(torch.full((9,), 9.0).double(), abs=1e-4)


def test_a_scale_is_positive():
    with pytest.raises(ValueError, match=r"^`scale` must be positive"):
        softmax_perplexity(unit_rows(2, 2), unit_rows(2, 2), 0.0)


def test_autocast_does_not_round_it():
    x, y = unit_rows(9, 5).float(), unit_rows(7, 5, seed=1).float()
    expected = softmax_perplexity(x, y, 100.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert softmax_perplexity(x, y, 100.0).equal(expected)
