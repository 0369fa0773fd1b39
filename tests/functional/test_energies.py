import math

import pytest
import torch
from scipy.special import ive

from hf_contrastive.functional import log_kernel_volume, mean_info_nce, population_energies, smoothed_divergence
from hf_contrastive.functional.energies import log_sphere_area
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


def mean_log(kernels: torch.Tensor, *, own: bool) -> float:
    """Mean over rows of the log of the mean kernel, each row left out of its own cloud."""
    if own:
        kernels = kernels.clone().fill_diagonal_(0)
    return float((kernels.sum(dim=1) / (kernels.shape[1] - own)).log().mean())


@pytest.mark.parametrize("d", [2, 3, 16, 512])
@pytest.mark.parametrize("temperature", [0.05, 0.25, 1.0])
def test_the_volume_of_the_kernel_is_the_one_with_a_bessel_function(d: int, temperature: float):
    # papers.md 1.1: (2 pi)^(d/2) tau^(d/2 - 1) I_(d/2 - 1)(1 / tau), from the scaled function, where that is a number.
    scaled = ive(d / 2 - 1, 1 / temperature)
    if scaled < 1e-300:
        # d = 512: the leading term, the area times 1, and the next, 1 / (2 d tau^2).
        expected = log_sphere_area(d) + math.log1p(1 / (2 * d * temperature**2))
        assert log_kernel_volume(d, temperature) == pytest.approx(expected, abs=0.1)
    else:
        expected = d / 2 * math.log(2 * math.pi) + (d / 2 - 1) * math.log(temperature)
        expected += math.log(scaled) + 1 / temperature
        assert log_kernel_volume(d, temperature) == pytest.approx(expected, abs=1e-9)


def test_the_volume_is_the_mean_kernel_times_the_area():
    z = unit_rows(200_000, 5)
    expected = math.log(float((z[:, 0] / 0.5).exp().mean())) + log_sphere_area(5)
    assert log_kernel_volume(5, 0.5) == pytest.approx(expected, abs=0.01)


# The inverse of 0.07 is no number of single precision, to which torch rounds Python's.
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_every_part_is_that_of_the_kernels_of_all_pairs(temperature: float, tile: int):
    x, y = unit_rows(7, 4), unit_rows(7, 4, seed=1)
    volume = log_kernel_volume(4, temperature)
    kernels = {name: (a @ b.T / temperature).exp() for name, a, b in (("xy", x, y), ("xx", x, x), ("yy", y, y))}
    actual = population_energies(3 * x, y, temperature=temperature)
    alignment = -float((x * y).sum(dim=1).mean()) / temperature
    cross = [-mean_log(k, own=False) + volume for k in (kernels["xy"], kernels["xy"].T)]
    own = [-mean_log(kernels[k], own=True) + volume for k in ("xx", "yy")]
    assert actual.alignment.item() == pytest.approx(alignment, abs=1e-11)
    assert [actual.cross_entropy_x.item(), actual.cross_entropy_y.item()] == pytest.approx(cross, abs=1e-11)
    assert [actual.entropy_x.item(), actual.entropy_y.item()] == pytest.approx(own, abs=1e-11)
    assert actual.energy.item() == pytest.approx(alignment - sum(cross) / 2, abs=1e-11)
    assert actual.free_energy_x.item() == pytest.approx(alignment - own[0], abs=1e-11)
    assert actual.free_energy_y.item() == pytest.approx(alignment - own[1], abs=1e-11)


@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_the_energy_is_the_clip_loss_less_the_log_of_rows_and_volume(temperature: float):
    x, y, rows = unit_rows(9, 4), unit_rows(9, 4, seed=1), torch.arange(9)
    loss = (mean_info_nce(x, y, rows, 1 / temperature) + mean_info_nce(y, x, rows, 1 / temperature)) / 2
    expected = float(loss) - math.log(9) - log_kernel_volume(4, temperature)
    assert population_energies(x, y, temperature=temperature).energy.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_the_energy_plus_the_divergence_is_the_mean_of_both_free_energies(temperature: float):
    """The decoupling identity of Cai et al. 2026, with the divergence computed on its own."""
    x, y = unit_rows(9, 4), unit_rows(9, 4, seed=1)
    actual = population_energies(x, y, temperature=temperature)
    divergence = smoothed_divergence(x, y, temperature=temperature).item()
    assert actual.divergence.item() == pytest.approx(divergence, abs=1e-11)
    free = (actual.free_energy_x + actual.free_energy_y).item() / 2
    assert actual.energy.item() + divergence == pytest.approx(free, abs=1e-11)


def test_evenly_spread_rows_have_the_entropy_of_the_sphere_and_coinciding_matches_the_reference():
    x = unit_rows(4000, 3)
    actual = population_energies(x, x, temperature=0.25)
    assert actual.entropy_ceiling == pytest.approx(math.log(4 * math.pi), abs=1e-12)
    # The deviation over seeds is 0.003 at this size.
    assert actual.entropy_x.item() == pytest.approx(actual.entropy_ceiling, abs=0.01)
    assert actual.energy.item() == pytest.approx(actual.reference, abs=0.02)
    assert actual.free_energy_x.item() == pytest.approx(actual.reference, abs=0.02)
    narrow = population_energies(x + 2, x + 2, temperature=0.25)
    assert narrow.entropy_x < actual.entropy_x - 1


def test_rows_of_several_matches_have_their_mean_potential():
    x, y = unit_rows(3, 4), unit_rows(5, 4, seed=1)
    x_ids, y_ids = torch.tensor([0, 1, 2]), torch.tensor([1, 0, 2, 1, 1])
    cosines = x @ y.T
    of_x = [cosines[0, 1], cosines[1, [0, 3, 4]].mean(), cosines[2, 2]]
    of_y = [cosines[1, 0], cosines[0, 1], cosines[2, 2], cosines[1, 3], cosines[1, 4]]
    expected = -(sum(of_x) / 3 + sum(of_y) / 5).item() / 2 / 0.1
    actual = population_energies(x, y, x_ids=x_ids, y_ids=y_ids, temperature=0.1)
    assert actual.alignment.item() == pytest.approx(expected, abs=1e-11)
    volume, kernels = log_kernel_volume(4, 0.1), (cosines / 0.1).exp()
    assert actual.cross_entropy_x.item() == pytest.approx(volume - mean_log(kernels, own=False), abs=1e-11)
    assert actual.cross_entropy_y.item() == pytest.approx(volume - mean_log(kernels.T, own=False), abs=1e-11)
    with pytest.raises(ValueError, match="Every row needs a match, but row 3 of `y` has none"):
        population_energies(x, y, x_ids=x_ids, y_ids=torch.tensor([1, 0, 2, 9, 1]))


def test_a_gap_lowers_the_energy_of_rows_and_not_their_free_energy():
    x = random_rows(200, 3)
    near, far = x + torch.tensor([1.0, 0, 0]), x + torch.tensor([0, 1.0, 0])
    together, apart = population_energies(near, near, temperature=0.5), population_energies(near, far, temperature=0.5)
    assert apart.divergence > together.divergence + 0.1
    assert apart.entropy_x.item() == pytest.approx(together.entropy_x.item(), abs=1e-12)
    assert apart.cross_entropy_x > together.cross_entropy_x


def test_memory_is_that_of_rows_and_tiles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 256)
    x, y = unit_rows(2048, 16).float(), unit_rows(2048, 16, seed=1).float()
    with LargestTensor() as memory:
        population_energies(x, y)
    assert memory.largest <= max(256**2, 2 * 2048 * 16)


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        population_energies(unit_rows(4, 3), unit_rows(4, 3), temperature=0)


def test_one_row_has_no_entropy():
    x, y = unit_rows(1, 3), unit_rows(2, 3, seed=1)
    with pytest.raises(ValueError, match=r"`x` must have at least 2 rows to have an entropy, but got shape \[1, 3\]"):
        population_energies(x, y, x_ids=torch.tensor([0]), y_ids=torch.tensor([0, 1]))
