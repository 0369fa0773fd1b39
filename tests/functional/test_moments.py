import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import (
    Moments,
    effective_rank,
    modality_gap,
    moments,
    spectrum,
)
from tests.functional.rows import random_rows, unit_rows


def of(x: Tensor, *sizes: int, normalize: bool = True) -> Moments:
    """Moments of rows that come in batches of the given sizes."""
    made = Moments(x.shape[1], normalize=normalize)
    for batch in x.split(list(sizes) or [len(x)]):
        made.update(batch)
    return made


def cloud(n: int = 60, d: int = 5, seed: int = 0) -> Tensor:
    """A cone of rows of uneven lengths."""
    return random_rows(n, d, seed) * torch.arange(1.0, n + 1, dtype=torch.float64).unsqueeze(1) + 3


@pytest.mark.parametrize("sizes", [(60,), (1, 59), (0, 20, 0, 40), (1,) * 60], ids=str)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("chunk", [7, 4096])
def test_mean_and_covariance_are_those_of_all_rows(
    sizes: tuple[int, ...], normalize: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(moments, "CHUNK_ROWS", chunk)
    x = cloud()
    made = of(x, *sizes, normalize=normalize)
    rows = x / x.norm(dim=1, keepdim=True) if normalize else x
    assert made.count == 60
    torch.testing.assert_close(made.mean, rows.mean(dim=0), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(made.covariance(), rows.T.cov(), rtol=1e-12, atol=1e-14)


def test_statistics_are_those_of_the_rows():
    x, y = cloud(), cloud(40, seed=1)
    of_x, of_y = of(x, 10, 50), of(y, 33, 7)
    torch.testing.assert_close(of_x.spectrum(), spectrum(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(of_x.effective_rank(), effective_rank(x), rtol=0, atol=1e-10)
    gap, expected = of_x.modality_gap(of_y), modality_gap(x, y)
    assert gap.gap.item() == pytest.approx(expected.gap.item(), abs=1e-13)
    assert gap.floor.item() == pytest.approx(expected.floor.item(), abs=1e-13)
    assert gap.unbiased_square.item() == pytest.approx(
        expected.gap.item() ** 2 - expected.floor.item() ** 2, abs=1e-13
    )


def test_cosines_are_those_of_all_distinct_pairs():
    x = cloud()
    rows = x / x.norm(dim=1, keepdim=True)
    pairs = (rows @ rows.T)[~torch.eye(60, dtype=torch.bool)]
    cosines = of(x, 25, 35).cosines()
    assert cosines.mean.item() == pytest.approx(pairs.mean().item(), abs=1e-13)
    assert cosines.mean_square.item() == pytest.approx(pairs.square().mean().item(), abs=1e-13)
    assert cosines.variance.item() == pytest.approx(pairs.var(correction=0).item(), abs=1e-13)


def test_merged_moments_are_those_of_all_rows():
    x = cloud()
    merged, whole = of(x[:13]).merge(of(x[13:])).merge(Moments(5)), of(x)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-13)


def test_vectors_add_up_to_the_moments_of_all_rows():
    x = cloud()
    summed = of(x[:13]).to_vector() + Moments(5).to_vector() + of(x[13:]).to_vector()
    back = Moments.from_vector(summed, 5)
    assert back.count == 60
    torch.testing.assert_close(back.mean, of(x).mean, rtol=0, atol=1e-14)
    torch.testing.assert_close(back.covariance(), of(x).covariance(), rtol=0, atol=1e-14)


def test_a_tight_cloud_far_from_the_origin_keeps_its_digits():
    x = 1e6 + 1e-3 * random_rows(3000, 4)
    # Variances are 1e-6; sums about the origin would be off by a hundred times as much.
    made = of(x, 1000, 1, 1999, normalize=False)
    torch.testing.assert_close(made.covariance(), x.T.cov(), rtol=0, atol=1e-14)


def test_many_rows_of_single_precision_keep_its_digits():
    x = unit_rows(20_000, 8).float() + torch.tensor([1.0] + [0.0] * 7)
    made, rows = of(x, 5000, 15_000), x.double() / x.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(made.mean, rows.mean(dim=0), rtol=0, atol=1e-8)
    torch.testing.assert_close(made.covariance(), rows.T.cov(), rtol=0, atol=5e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_as_it_is(dtype: torch.dtype):
    x = cloud().to(dtype)
    torch.testing.assert_close(of(x).covariance(), of(x.double()).covariance(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "are not finite"), (0.0, "of zeros")])
def test_a_bad_row_is_counted_over_all_batches_and_its_batch_left_out(
    value: float, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(moments, "CHUNK_ROWS", 8)
    made, x = of(cloud(10)), cloud(20)
    before = made.mean
    x[13] = value
    with pytest.raises(ValueError, match=rf"^`x` holds rows (that )?{kind}.*: row 23 is the first of 1"):
        made.update(x)
    assert made.count == 10
    assert made.mean.equal(before)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"^`x` must have width 5, but got shape \[3, 4\]\.$"):
        Moments(5).update(unit_rows(3, 4))
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        Moments(4).update(torch.ones(3, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"must agree in `width` and `normalize`, but got 5, True and 5, False\.$"):
        Moments(5).merge(Moments(5, normalize=False))
    with pytest.raises(ValueError, match="must have at least 2 rows, but has 1"):
        of(unit_rows(1, 4)).covariance()
    with pytest.raises(ValueError, match="must have at least 2 rows, but has 1"):
        of(unit_rows(1, 4)).cosines()
    with pytest.raises(ValueError, match="made with `normalize=False`"):
        of(unit_rows(3, 4), normalize=False).cosines()
    with pytest.raises(ValueError, match="must have the same width, but got 4 and 5"):
        of(unit_rows(3, 4)).modality_gap(of(unit_rows(3, 5)))
    with pytest.raises(ValueError, match="has 3 entries, which is not what moments of width 4 have"):
        Moments.from_vector(torch.ones(3), 4)
