from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import uniformity, uniformity_estimate
from tests.functional.rows import random_rows, unit_rows


def isotropic(n: int, d: int) -> Tensor:
    return random_rows(n, d)


def power_law(n: int, d: int) -> Tensor:
    """A cone whose spectrum falls."""
    return random_rows(n, d) * torch.arange(1.0, d + 1, dtype=torch.float64).pow(-0.7) + 0.05


def clustered(n: int, d: int) -> Tensor:
    """Fifty clusters, whose sizes fall by Zipf's law."""
    generator = torch.Generator().manual_seed(1)
    shares = 1 / torch.arange(1.0, 51)
    return 0.16 * random_rows(n, d) + unit_rows(50, d, seed=2)[torch.multinomial(shares, n, True, generator=generator)]


clouds = pytest.mark.parametrize("cloud", [isotropic, power_law, clustered])


@clouds
@pytest.mark.parametrize("block", [100, 600])
def test_errors_are_as_large_as_the_standard_error_says(cloud, block: int):
    # The second block takes most of the rows. The root mean square of 100 normal ratios is 1 +- 0.07.
    x = cloud(1500, 16).float()
    exact = uniformity(x).item()
    estimates = [uniformity_estimate(x, block=block, seed=seed) for seed in range(100)]
    ratios = torch.tensor([(value - exact) / error for value, error in estimates])
    assert ratios.square().mean().sqrt().item() == pytest.approx(1, abs=0.28)
    assert abs(ratios.mean().item()) < 0.4


@clouds
def test_moments_take_most_of_the_error_away(cloud):
    x = cloud(1500, 16)
    exact, plain, controlled = uniformity(x).item(), [], []
    for seed in range(20):
        rows = torch.randperm(1500, generator=torch.Generator().manual_seed(seed))[:300]
        plain.append(uniformity(x[rows]).item() - exact)
        controlled.append(uniformity_estimate(x, block=150, seed=seed).value - exact)
    assert np.std(controlled) < 0.6 * np.std(plain)


def test_the_draw_does_not_meet_the_numbers_that_made_the_rows():
    # Half of the cloud has collapsed, chosen by a seed that the estimate is then given as well.
    for seed in range(3):
        collapsed = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) < 0.5
        x = torch.where(collapsed.unsqueeze(1), unit_rows(1, 8), random_rows(2000, 8))
        value, error = uniformity_estimate(x, block=200, seed=seed)
        assert abs(value - uniformity(x).item()) < 4 * error


def test_of_few_rows_all_pairs_are_taken():
    x = unit_rows(40, 5)
    value, error = uniformity_estimate(x, t=3, block=20)
    assert value == pytest.approx(uniformity(x, t=3).item(), abs=1e-12)
    assert error == 0


def test_one_seed_gives_one_estimate_however_rows_come(tmp_path: Path):
    x = power_law(700, 6)
    np.save(tmp_path / "rows.npy", x.numpy())
    expected = uniformity_estimate(x, block=50, seed=3)
    ways = [
        x.numpy(),
        np.load(tmp_path / "rows.npy", mmap_mode="r"),
        iter(x.split(123)),
        [x[:1].numpy(), x[1:].numpy()],
        x * 7,
    ]
    for rows in ways:
        value, error = uniformity_estimate(rows, block=50, seed=3)
        assert value == pytest.approx(expected.value, abs=1e-12)
        assert error == pytest.approx(expected.standard_error, rel=1e-9)
    assert uniformity_estimate(x, block=50, seed=3) == expected
    assert uniformity_estimate(x, block=50, seed=4) != expected


def test_every_row_is_drawn_equally_often():
    from hf_contrastive.functional.uniformity_estimate import _moments_and_sample

    x, counts = torch.arange(1.0, 41).unsqueeze(1), torch.zeros(41)
    for seed in range(400):
        chunks = iter(x.split([3, 20, 17]))
        _, sample = _moments_and_sample(chunks, 10, seed)
        assert len(sample.unique()) == 10
        counts[sample.flatten().long()] += 1
    # Binomial: 100 +- 8.7 each.
    assert counts[1:].min() > 60
    assert counts[1:].max() < 140


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "are not finite"), (0.0, "of zeros")])
def test_a_bad_row_is_counted_over_all_chunks(value: float, kind: str):
    x = random_rows(60, 4)
    x[47] = value
    with pytest.raises(ValueError, match=rf"`x` holds rows .*{kind}.*: row 47 is the first of 1"):
        uniformity_estimate(x.split(20), block=4)


def test_a_block_that_shows_no_close_pair_gives_no_number():
    # All potentials between distinct rows are zero in single precision.
    with pytest.raises(ValueError, match="leaves no positive estimate at `t=200"):
        uniformity_estimate(torch.eye(64), t=200, block=4)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(1, 4), ValueError, "must have at least 2 rows, but has 1"),
        (iter([]), ValueError, "must have at least 2 rows, but has 0"),
        (torch.ones(4), ValueError, r"must have shape \(rows, width\), but got shape \[4\]"),
        (torch.ones(4, 4, dtype=torch.long), TypeError, "must be a floating-point tensor"),
        ([torch.ones(4, 4), torch.ones(4, 3)], ValueError, r"must have width 4, but got shape \[4, 3\]"),
        (3.0, TypeError, "must be rows or an iterable of chunks of rows, but got float"),
    ],
    ids=["one row", "nothing", "a vector", "whole numbers", "two widths", "a number"],
)
def test_what_is_no_cloud_is_refused(x: object, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        uniformity_estimate(x)


def test_options_are_checked():
    with pytest.raises(ValueError, match="`t` must be positive"):
        uniformity_estimate(unit_rows(4, 3), t=0)
    with pytest.raises(ValueError, match="`block` must be at least 2, but got 1"):
        uniformity_estimate(unit_rows(4, 3), block=1)


@pytest.mark.parametrize("points", [torch.eye(8)[:1], torch.eye(8)[:2], torch.ones(1, 8)])
def test_clouds_of_a_few_points_have_an_estimate(points: torch.Tensor):
    x = points.repeat(3000 // len(points), 1)
    estimate = uniformity_estimate(x, block=1400)
    assert estimate.value == pytest.approx(float(uniformity(x.double())), abs=1e-5)
    assert 0 <= estimate.standard_error < 1e-4
