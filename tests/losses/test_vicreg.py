import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.losses import total
from hf_contrastive.losses.barlow_twins import BarlowTwins
from hf_contrastive.losses.vicreg import VICReg
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import MISSING, THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch


def pairs(modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(first, second) for i, first in enumerate(modalities) for second in modalities[i + 1 :]]


def off_diagonal_squares(matrix: Tensor) -> Tensor:
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)].square().sum()


@on_every_batch
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 2.0, 3.0)])
def test_matches_the_paper(
    modalities: tuple[str, ...], missing: dict[str, list[int]], weights: tuple[float, float, float]
):
    """Bardes et al. 2022, Equations 1 to 6, the distance divided by the width as their code does."""

    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        clouds = {m: math.sqrt(5) * rows(m)[0] for m in modalities}
        distances = [(5 * (x - y).square()).mean() for x, y in (rows(*pair) for pair in pairs(modalities))]
        short = [torch.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() for z in clouds.values()]
        covariances = [off_diagonal_squares(torch.cov(z.T)) / 5 for z in clouds.values()]
        # Both branches of a pair are summed, so the mean over modalities counts twice.
        return (
            weights[0] * sum(distances) / len(distances)
            + weights[1] * 2 * sum(short) / len(short)
            + weights[2] * 2 * sum(covariances) / len(covariances)
        )

    loss = VICReg(invariance_weight=weights[0], variance_weight=weights[1], covariance_weight=weights[2])
    assert_matches(loss, formula, modalities, missing)


@on_every_batch
@pytest.mark.parametrize("weight", [5e-3, 0.7])
def test_barlow_twins_matches_the_paper(modalities: tuple[str, ...], missing: dict[str, list[int]], weight: float):
    """Zbontar et al. 2021, Equation 1, with the batch normalization of Algorithm 1."""

    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        values = []
        for pair in pairs(modalities):
            x, y = (
                torch.nn.functional.batch_norm(math.sqrt(5) * z, None, None, training=True, eps=1e-5)
                for z in rows(*pair)
            )
            correlation = x.T @ y / len(x)
            diagonal = (1 - correlation.diagonal()).square().sum()
            values.append(diagonal + weight * off_diagonal_squares(correlation))
        return sum(values) / len(values)

    assert_matches(BarlowTwins(off_diagonal_weight=weight), formula, modalities, missing)


def test_evenly_spread_unit_embeddings_reach_the_variance_of_one():
    even = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    output = random_output()._replace(embeds={"image": even, "text": even.roll(1, dims=0)})
    terms = VICReg()(batch_of(output))
    assert terms["variance"].item() == 0
    assert terms["covariance"].item() == 0
    assert terms["invariance"].item() > 0


@pytest.mark.parametrize("loss", [VICReg(), BarlowTwins()])
def test_is_zero_with_a_graph_where_fewer_than_two_rows_are_there(loss: VICReg | BarlowTwins):
    output = random_output()
    for count in (0, 1):
        value = total(loss(batch_of(output, masks(TWO, {m: list(range(count, 8)) for m in TWO}))))
        expected = 25 * (output.embeds["image"][0] - output.embeds["text"][0]).square().sum().item()
        assert value.item() == pytest.approx(expected if count and isinstance(loss, VICReg) else 0, abs=1e-9)
        assert all(grad.isfinite().all() for grad in gradients(value, list(output.embeds.values())))


@pytest.mark.parametrize("modalities", [TWO, THREE])
@pytest.mark.parametrize("loss", [VICReg(), BarlowTwins(off_diagonal_weight=0.3)])
def test_gradients_match_finite_differences(loss: VICReg | BarlowTwins, modalities: tuple[str, ...]):
    output = random_output(num_rows=6, width=3, modalities=modalities)

    def value(*embeds: Tensor) -> Tensor:
        return total(loss(batch_of(output._replace(embeds=dict(zip(modalities, embeds, strict=True))))))

    assert gradcheck(value, tuple(output.embeds.values()))


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    check_losses([VICReg(), BarlowTwins(), BarlowTwins(off_diagonal_weight=0.5)], num_processes, tolerance=1e-9)


def test_terms_are_logged():
    batch = batch_of(random_output(), masks(TWO, MISSING))
    assert list(VICReg()(batch)) == ["invariance", "variance", "covariance"]
    assert list(BarlowTwins()(batch)) == ["barlow_twins"]


@pytest.mark.parametrize("loss", [VICReg, BarlowTwins])
def test_an_eps_of_zero_is_refused(loss: type):
    with pytest.raises(ValueError, match=r"^`eps` must be positive and finite, but got 0\.0\.$"):
        loss(eps=0.0)
