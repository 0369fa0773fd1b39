from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.batch import QueuedRows
from hf_contrastive.functional.hoelder import hoelder_divergence
from hf_contrastive.losses import total
from hf_contrastive.losses.cauchy_schwarz import CauchySchwarz
from hf_contrastive.losses.hoelder_divergence import HoelderDivergence
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import (
    MISSING,
    THREE,
    TWO,
    Rows,
    assert_matches,
    gradients,
    masks,
    off_diagonal,
    on_every_batch,
)


def log_mean(values: Tensor) -> Tensor:
    return values.mean().log()


def potentials(x: Tensor, y: Tensor, t: float) -> Tensor:
    # |x - y|^2 = 2 - 2 x . y for unit rows. Gradients along a row, which normalization drops, would differ.
    return torch.exp(-t * (2 - 2 * x @ y.T))


def own_density(x: Tensor, t: float, leave_one_out: bool) -> Tensor:
    kernels = potentials(x, x, t)
    # A row's kernel with itself is 1 and has no slope.
    itself = torch.eye(len(x), dtype=torch.bool)
    return (off_diagonal(kernels) if leave_one_out else kernels.masked_fill(itself, 1)).mean(dim=1)


def dense_hoelder(
    rows: Rows, modalities: tuple[str, ...], anchor: str | None, t: float, leave_one_out: bool
) -> Tensor:
    """papers.md 5.3 with whole matrices, over all rows that each modality has."""
    clouds = {m: rows(m)[0] for m in modalities}
    powers = [log_mean(own_density(x, t, leave_one_out) ** (len(modalities) - 1)) for x in clouds.values()]
    overlaps = []
    for a in modalities if anchor is None else [anchor]:
        densities = [potentials(clouds[a], clouds[n], t).mean(dim=1) for n in modalities if n != a]
        overlaps.append(log_mean(torch.stack(densities).prod(dim=0)))
    return sum(powers) / len(powers) - sum(overlaps) / len(overlaps)


@on_every_batch
@pytest.mark.parametrize("anchor", [None, "image", "text"])
@pytest.mark.parametrize("leave_one_out", [True, False])
def test_matches_the_paper_with_whole_matrices(
    modalities: tuple[str, ...], missing: dict[str, list[int]], anchor: str | None, leave_one_out: bool
):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        return dense_hoelder(rows, modalities, anchor, 1.5, leave_one_out)

    loss = HoelderDivergence(t=1.5, anchor=anchor, leave_one_out=leave_one_out)
    assert_matches(loss, formula, modalities, missing)


@on_every_batch
@pytest.mark.parametrize("leave_one_out", [True, False])
def test_cauchy_schwarz_matches_the_paper_with_whole_matrices(
    modalities: tuple[str, ...], missing: dict[str, list[int]], leave_one_out: bool
):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        clouds = [rows(m)[0] for m in modalities]
        values = []
        for i, x in enumerate(clouds):
            for y in clouds[i + 1 :]:
                squares = own_density(x, 1.5, leave_one_out).mean() * own_density(y, 1.5, leave_one_out).mean()
                values.append(-torch.log(potentials(x, y, 1.5).mean() ** 2 / squares))
        return sum(values) / len(values)

    assert_matches(CauchySchwarz(t=1.5, leave_one_out=leave_one_out), formula, modalities, missing)


@pytest.mark.parametrize("missing", [{}, MISSING])
def test_cauchy_schwarz_of_two_modalities_is_twice_the_hoelder_divergence(missing: dict[str, list[int]]):
    output = random_output()
    batch = batch_of(output, masks(TWO, missing))
    values = total(CauchySchwarz()(batch)), 2 * total(HoelderDivergence()(batch))
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)
    grads = [gradients(value, list(output.embeds.values())) for value in values]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


def test_of_a_whole_batch_is_the_divergence_of_its_clouds():
    output = random_output(modalities=THREE)
    expected = hoelder_divergence([output.embeds[m] for m in THREE], anchor=1)
    actual = total(HoelderDivergence(anchor="image")(batch_of(output)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_knows_nothing_of_pairs():
    output = random_output()
    shuffled = output._replace(embeds=output.embeds | {"text": output.embeds["text"].roll(3, dims=0)})
    for loss in (HoelderDivergence(), CauchySchwarz()):
        torch.testing.assert_close(total(loss(batch_of(output))), total(loss(batch_of(shuffled))), rtol=0, atol=1e-12)


def test_duplicates_and_queued_rows_change_nothing():
    batch = batch_of(random_output())
    queued = QueuedRows(F.normalize(torch.ones(3, 5, dtype=torch.float64), dim=1), None)
    other = replace(batch, ids=torch.tensor([0, 0, 1, 1, 2, 3, 4, 5]), queue={"text": queued}, margin=0.0)
    for loss in (HoelderDivergence(), CauchySchwarz()):
        torch.testing.assert_close(loss(batch), loss(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("modalities", [TWO, THREE])
@pytest.mark.parametrize("present", [0, 1])
def test_is_zero_with_a_gradient_where_a_modality_has_too_few_rows(modalities: tuple[str, ...], present: int):
    output = random_output(modalities=modalities)
    batch = batch_of(output, masks(modalities, {"text": list(range(present, 8))}))
    for loss in (HoelderDivergence(), HoelderDivergence(leave_one_out=False), CauchySchwarz()):
        value = total(loss(batch))
        # V-statistics are defined for a single row.
        empty = present == 0 or loss != HoelderDivergence(leave_one_out=False)
        if empty and not (isinstance(loss, CauchySchwarz) and modalities == THREE):
            assert value.item() == 0
            assert all(grad.eq(0).all() for grad in gradients(value, list(output.embeds.values())))
        assert all(grad.isfinite().all() for grad in gradients(value, list(output.embeds.values())))


def test_a_pair_without_rows_counts_as_zero_in_the_mean_over_pairs():
    output = random_output(modalities=THREE)
    value = total(CauchySchwarz()(batch_of(output, masks(THREE, {"text": list(range(8))}))))
    pair = {m: output.embeds[m] for m in ("audio", "image")}
    expected = total(CauchySchwarz()(batch_of(output._replace(embeds=pair)))) / 3
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def test_gradients_match_finite_differences():
    inputs = tuple(random_output(num_rows=4, width=3, modalities=THREE).embeds.values())

    def value(*embeds: Tensor) -> Tensor:
        output = random_output()._replace(embeds=dict(zip(THREE, embeds, strict=True)))
        return total(HoelderDivergence()(batch_of(output))) + total(CauchySchwarz()(batch_of(output)))

    assert gradcheck(value, inputs)


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    losses = [
        HoelderDivergence(),
        HoelderDivergence(anchor="text", t=0.7),
        HoelderDivergence(leave_one_out=False),
        CauchySchwarz(),
        CauchySchwarz(leave_one_out=False),
    ]
    check_losses(losses, num_processes, tolerance=1e-9)


@pytest.mark.parametrize("loss", [HoelderDivergence, CauchySchwarz])
def test_a_sharpness_that_is_not_positive_is_refused(loss: type):
    with pytest.raises(ValueError, match=r"^`t` must be positive and finite, but got 0\.0\.$"):
        loss(t=0.0)


def test_an_anchor_that_is_no_modality_is_refused():
    with pytest.raises(
        ValueError, match=r"`anchor` must be one of the modalities \['image', 'text'\], but got 'audio'"
    ):
        HoelderDivergence(anchor="audio")(batch_of(random_output()))
