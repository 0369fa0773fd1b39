import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional.gaussian import random_directions
from hf_contrastive.losses import total
from hf_contrastive.losses.chance import step_random
from hf_contrastive.losses.sliced_gaussian import SlicedGaussian
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch


def directions(batch: ContrastiveBatch, num: int, seed: int, width: int = 5) -> Tensor:
    chance = torch.Generator().manual_seed(step_random(batch, seed).getrandbits(63))
    return random_directions(width, num, chance)


def algorithm_1(x: Tensor, lines: Tensor) -> Tensor:
    """Balestriero & LeCun 2025, in complex numbers."""
    u = torch.linspace(-5, 5, 17, dtype=x.dtype)
    normal = torch.exp(-0.5 * u**2)
    empirical = torch.exp(1j * (x @ lines).unsqueeze(2) * u).mean(dim=0)
    return (torch.trapezoid((empirical - normal).abs() ** 2 * normal, u, dim=1) * len(x)).mean()


@on_every_batch
@pytest.mark.parametrize("seed", [0, 3])
def test_matches_the_papers_algorithm(modalities: tuple[str, ...], missing: dict[str, list[int]], seed: int):
    lines = directions(batch_of(random_output()), 16, seed)

    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        return sum(algorithm_1(math.sqrt(5) * rows(m)[0], lines) for m in modalities) / len(modalities)

    assert_matches(SlicedGaussian(num_slices=16, seed=seed), formula, modalities, missing)


def test_directions_change_with_progress_and_seed_and_are_the_same_otherwise():
    batch = batch_of(random_output())
    value = total(SlicedGaussian(num_slices=4)(batch))
    assert total(SlicedGaussian(num_slices=4)(batch)) == value
    assert total(SlicedGaussian(num_slices=4)(replace(batch, progress=0.5))) != value
    assert total(SlicedGaussian(num_slices=4, seed=1)(batch)) != value


def test_evenly_spread_embeddings_are_as_good_as_normal_samples_and_gathered_ones_are_not():
    spread, gathered = [], []
    for seed in range(8):
        output = random_output(num_rows=200, width=32, seed=seed)
        spread.append(total(SlicedGaussian()(batch_of(output))).item())
        shifted = {m: F.normalize(x + 1.0, dim=1) for m, x in output.embeds.items()}
        gathered.append(total(SlicedGaussian()(batch_of(output._replace(embeds=shifted)))).item())
    # 1.06 is the mean for normal samples; the mean of eight scatters by 0.07 around it.
    assert sum(spread) / 8 == pytest.approx(1.06, abs=0.25)
    assert min(gathered) > 10


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_a_modality_without_rows_counts_as_zero(modalities: tuple[str, ...]):
    output = random_output(modalities=modalities)
    batch = batch_of(output, masks(modalities, {"text": list(range(8))}))
    lines = directions(batch, 8, 0)
    value = total(SlicedGaussian(num_slices=8)(batch))
    others = [algorithm_1(math.sqrt(5) * output.embeds[m], lines) for m in modalities if m != "text"]
    torch.testing.assert_close(value, sum(others) / len(modalities), rtol=0, atol=1e-9)
    assert gradients(value, [output.embeds["text"]])[0].eq(0).all()


def test_gradients_match_finite_differences():
    output = random_output(num_rows=4, width=3)

    def value(*embeds: Tensor) -> Tensor:
        return total(
            SlicedGaussian(num_slices=5)(batch_of(output._replace(embeds=dict(zip(TWO, embeds, strict=True)))))
        )

    assert gradcheck(value, tuple(output.embeds.values()))


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    check_losses([SlicedGaussian(num_slices=8), SlicedGaussian(num_slices=1, seed=5)], num_processes, tolerance=1e-9)


def test_no_slices_are_refused():
    with pytest.raises(ValueError, match=r"^`num_slices` must be at least 1, but got 0\.$"):
        SlicedGaussian(num_slices=0)
