import math

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import effective_potential, great_circle, log_kernel_volume, population_energies
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


def circle(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def von_mises_quantiles(kappa: float, n: int) -> Tensor:
    grid = torch.linspace(-math.pi, math.pi, 100001, dtype=torch.float64)
    density = torch.exp(kappa * grid.cos())
    cumulated = torch.cumsum(density, 0) / density.sum()
    return grid[torch.searchsorted(cumulated, (torch.arange(n, dtype=torch.float64) + 0.5) / n)]


def test_every_part_matches_a_loop_over_rows(monkeypatch: pytest.MonkeyPatch, tile: int):
    monkeypatch.setattr("hf_contrastive.functional.barrier.CHUNK_SCORES", 20)
    points, x, y = unit_rows(5, 3, seed=2), unit_rows(7, 3), unit_rows(7, 3, seed=1)
    actual = effective_potential(2 * points, x, 3 * y, temperature=0.3, smoothing=0.5)
    volume = log_kernel_volume(3, 0.5)
    for i, z in enumerate(points):
        weights = [math.exp(float(z @ row) / 0.5) for row in x]
        mean = sum(w * row for w, row in zip(weights, y, strict=True)) / sum(weights)
        densities = [math.log(sum(math.exp(float(z @ row) / 0.5) for row in rows) / 7) - volume for rows in (y, x)]
        assert actual.alignment[i].item() == pytest.approx(-float(z @ mean) / 0.3, abs=1e-11)
        assert actual.log_density[i].item() == pytest.approx(densities[0], abs=1e-11)
        assert actual.own_log_density[i].item() == pytest.approx(densities[1], abs=1e-11)
    assert actual.potential.tolist() == pytest.approx((actual.alignment + actual.log_density).tolist(), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_densities_integrate_to_one(temperature: float):
    angles = torch.arange(4096, dtype=torch.float64) * (2 * math.pi / 4096)
    x = unit_rows(30, 2)
    actual = effective_potential(circle(angles), x, x.flip(0), temperature=temperature)
    for density in (actual.log_density, actual.own_log_density):
        assert float(density.exp().mean()) * 2 * math.pi == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("temperature", "antipode"), [(0.1, False), (3.0, True)])
def test_a_concentrated_modality_repels_at_high_temperatures(temperature: float, antipode: bool):
    """The barrier flip of papers.md 1.1, with a cloud around angle zero that matches every row alike."""
    kappa, n = 2.0, 512
    y = circle(von_mises_quantiles(kappa, n))
    # Neighbours match rows far from each other, so that the mean of what they match is that of the cloud.
    x = circle(torch.arange(n, dtype=torch.float64) * (2 * math.pi / n))[(torch.arange(n) * 197) % n]
    angles = torch.linspace(-math.pi, math.pi, 181, dtype=torch.float64)
    actual = effective_potential(circle(angles), x, y, temperature=temperature, smoothing=0.05)
    center = float(y.mean(0)[0])
    assert actual.alignment.tolist() == pytest.approx(
        (-center * angles.cos() / temperature).tolist(), abs=0.02 / temperature
    )
    lowest = abs(float(angles[actual.potential.argmin()]))
    assert lowest == pytest.approx(math.pi if antipode else 0, abs=0.2)


def test_at_its_rows_the_density_of_the_other_modality_is_that_of_the_energies():
    x, y = unit_rows(9, 4), unit_rows(9, 4, seed=1)
    energies, actual = population_energies(x, y, temperature=0.2), effective_potential(x, x, y, temperature=0.2)
    assert -actual.log_density.mean().item() == pytest.approx(energies.cross_entropy_x.item(), abs=1e-11)
    # With hardly any smoothing the match at a row is its own.
    sharp = effective_potential(x, x, y, temperature=0.2, smoothing=1e-3)
    assert sharp.alignment.mean().item() == pytest.approx(energies.alignment.item(), abs=1e-6)


def test_a_great_circle_passes_both_centers():
    x, y = unit_rows(30, 5) + 0.5, unit_rows(20, 5, seed=1) + torch.tensor([1.0, 0, 0, 0, 0])
    angles, points, between = great_circle(x, y, num_points=721)
    means = [(z / z.norm(dim=1, keepdim=True)).mean(0) for z in (x, y)]
    cosine = torch.cosine_similarity(*means, dim=0).item()
    assert between.item() == pytest.approx(math.acos(cosine), abs=1e-12)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(721, dtype=torch.float64))
    assert points[360].tolist() == pytest.approx((means[0] / means[0].norm()).tolist(), abs=1e-12)
    nearest = points[(angles - between).abs().argmin()]
    assert float(nearest @ means[1] / means[1].norm()) > math.cos(2 * math.pi / 720)
    torch.testing.assert_close(points[0], points[-1])


def test_centers_without_a_circle_are_refused():
    x = torch.eye(3)[:1].expand(4, 3)
    with pytest.raises(ValueError, match="on one line through the origin"):
        great_circle(x, x)
    with pytest.raises(ValueError, match="on one line through the origin"):
        great_circle(x, -x)
    with pytest.raises(ValueError, match="is the origin, which has no direction"):
        great_circle(torch.cat([x, -x]), x)
    with pytest.raises(ValueError, match="`num_points` must be at least 2"):
        great_circle(x, x.flip(1), num_points=1)


def test_memory_is_that_of_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 128)
    monkeypatch.setattr("hf_contrastive.functional.barrier.CHUNK_SCORES", 8192)
    points, x, y = (unit_rows(n, 8, seed).float() for seed, n in enumerate((500, 2000, 2000)))
    with LargestTensor() as memory:
        effective_potential(points, x, y)
    assert memory.largest <= 128**2


def test_bad_rows_are_refused():
    x = random_rows(4, 3)
    with pytest.raises(ValueError, match="`smoothing` must be positive"):
        effective_potential(x, x, x, smoothing=0)
    with pytest.raises(ValueError, match=r"`points` holds rows of zeros.*row 1"):
        effective_potential(x.index_fill(0, torch.tensor([1]), 0), x, x)
