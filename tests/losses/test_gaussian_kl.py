from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hf_contrastive.losses import total
from hf_contrastive.losses.gaussian_kl import GaussianKL
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch


def divergence(x: Tensor, shrinkage: float) -> Tensor:
    """From N(0, I/d), with the trace and the determinant written out."""
    n, d = x.shape
    mean = x.mean(dim=0)
    covariance = (x - mean).T @ (x - mean) / n
    relative = (1 - shrinkage) * d * covariance + shrinkage * torch.eye(d, dtype=x.dtype)
    return (relative.trace() + d * mean @ mean - d - torch.logdet(relative)) / 2


@on_every_batch
@pytest.mark.parametrize(("eta2", "shrinkage"), [(0.5, 0.1), (0.1, 0.6), (1.0, 0.1)])
def test_matches_the_formula_with_the_papers_weight(
    modalities: tuple[str, ...], missing: dict[str, list[int]], eta2: float, shrinkage: float
):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        values = [divergence(rows(m)[0], shrinkage) for m in modalities]
        return 2 * 7.0 * (1 - eta2) / 5 * sum(values) / len(values)

    # The weight is a constant: a gradient of the scale, which is 7 here, would not match.
    assert_matches(GaussianKL(eta2=eta2, shrinkage=shrinkage), formula, modalities, missing)


def test_outweighs_what_a_mean_off_the_center_gains_by_alignment():
    """The surrogate of Appendix D: InfoNCE gains alpha (1 - eta2) |m|^2, with alpha the scale."""
    for shift in (0.1, 0.5, 2.0):
        output = random_output(num_rows=64)
        x = output.embeds["image"] + shift
        x = x / x.norm(dim=1, keepdim=True)
        batch = batch_of(output._replace(embeds={"image": x, "text": x}))
        gain = 7.0 * (1 - 0.3) * x.mean(dim=0).square().sum()
        assert total(GaussianKL(eta2=0.3)(batch)) > gain


@pytest.mark.parametrize("modalities", [TWO, THREE])
@pytest.mark.parametrize("present", [0, 1])
def test_a_modality_of_fewer_than_two_rows_counts_as_zero(modalities: tuple[str, ...], present: int):
    output = random_output(modalities=modalities)
    value = total(GaussianKL()(batch_of(output, masks(modalities, {"text": list(range(present, 8))}))))
    others = [divergence(output.embeds[m], 0.1) for m in modalities if m != "text"]
    expected = 2 * 7.0 * 0.5 / 5 * sum(others) / len(modalities)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)
    assert gradients(value, [output.embeds["text"]])[0].eq(0).all()


def test_is_zero_with_a_graph_where_nothing_is_there():
    output = random_output()
    batch = batch_of(output, masks(TWO, {m: list(range(8)) for m in TWO}))
    value = total(GaussianKL()(batch))
    assert value.item() == 0
    assert all(grad.eq(0).all() for grad in gradients(value, list(output.embeds.values())))


def test_does_not_change_within_training():
    batch = batch_of(random_output())
    torch.testing.assert_close(GaussianKL()(batch), GaussianKL()(replace(batch, progress=0.2)))


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    check_losses([GaussianKL(), GaussianKL(eta2=0.0, shrinkage=0.5)], num_processes, tolerance=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta2": 1.1}, r"^`eta2` is a squared correlation, between 0 and 1, but got 1\.1\.$"),
        ({"shrinkage": 0.0}, r"^`shrinkage` must be between 0 and 1, both excluded, but got 0\.0\.$"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        GaussianKL(**options)
