import pytest
import torch

from hf_contrastive.functional import products
from hf_contrastive.functional.products import row_products
from tests.functional.rows import random_rows


SHAPES = [(1, 1, 1), (3, 5, 2), (256, 130, 77), (130, 256, 512), (1, 4096, 600), (512, 512, 16)]


@pytest.mark.parametrize(("r", "c", "d"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_double_precision(r: int, c: int, d: int, dtype: torch.dtype):
    x, y = random_rows(r, d).to(dtype), random_rows(c, d, seed=1).to(dtype)
    expected = x.double() @ y.double().T
    # Rounding of a sum of d terms of size one, one after another; bfloat16 would be a thousand times as far off.
    tolerance = 4 * torch.finfo(dtype).eps * d
    out = torch.empty(r, c, dtype=dtype)
    for actual in (row_products(x, y), row_products(x, y, out=out), out):
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance)


def test_rows_may_lie_anywhere_in_memory():
    x, y = random_rows(300, 512).float(), random_rows(512, 300, seed=1).float()
    expected = x[::2, ::2].double() @ y.T[:, ::2].double().T
    torch.testing.assert_close(row_products(x[::2, ::2], y.T[:, ::2]).double(), expected, rtol=0, atol=1e-4)


def test_products_keep_full_precision_where_torch_may_lower_it():
    x, y = random_rows(256, 512).float(), random_rows(256, 512, seed=1).float()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        actual = row_products(x, y).double()
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(actual, x.double() @ y.double().T, rtol=0, atol=4e-4)


@pytest.mark.parametrize("rows", [4, 256])
def test_autocast_does_not_round_products(rows: int):
    x, y = random_rows(rows, 512).float(), random_rows(rows, 512, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        actual = row_products(x, y)
    assert actual.equal(row_products(x, y))


def test_without_onednn_torch_multiplies(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(products, "_has_onednn", lambda: False)
    x, y = random_rows(256, 512).float(), random_rows(256, 512, seed=1).float()
    assert row_products(x, y).equal(x @ y.T)


def test_a_nan_shows_in_its_row_alone():
    x, y = torch.ones(256, 512), torch.ones(256, 512)
    x[3, 7] = float("nan")
    bad = row_products(x, y).isnan()
    assert bad[3].all()
    assert int(bad.sum()) == 256
