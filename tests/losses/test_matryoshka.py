import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from hf_contrastive.batch import QueuedRows
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.losses import CLIP, AlignUniform, CLIPDivergence, get_loss, total
from hf_contrastive.losses.matryoshka import Matryoshka, cut
from hf_contrastive.testing import batch_of, check_losses, random_output
from tests.losses.dense import MISSING, THREE, TWO, Rows, assert_matches, gradients, masks, on_every_batch


def symmetric(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits, labels = scale * x @ y.T, torch.arange(len(x))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@pytest.mark.parametrize("missing", [{}, {"text": [0, 2, 5, 6]}])
@pytest.mark.parametrize("weights", [None, (0.3, 2.0)])
def test_matches_the_paper_with_clip_of_each_prefix(
    missing: dict[str, list[int]], weights: tuple[float, float] | None
):
    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        value = 0.0
        for width, weight in zip((2, 5), weights or (1.0, 1.0), strict=True):
            x, y = (z[:, :width] / z[:, :width].norm(dim=1, keepdim=True) for z in rows("image", "text"))
            value = value + weight * symmetric(x, y, scale)
        return value

    assert_matches(Matryoshka(widths=(2, 5), weights=weights), formula, TWO, missing)


@on_every_batch
def test_is_the_sum_of_the_loss_of_each_prefix_that_somebody_cut(
    modalities: tuple[str, ...], missing: dict[str, list[int]]
):
    output, present = random_output(modalities=modalities), masks(modalities, missing)
    inner = CLIPDivergence(weight=0.5)
    terms = Matryoshka(loss=inner, widths=[3, 5])(batch_of(output, present))
    expected = {}
    for width in (3, 5):
        embeds = {m: F.normalize(x[:, :width], dim=1) for m, x in output.embeds.items()}
        expected |= {
            f"{name}_{width}": v for name, v in inner(batch_of(output._replace(embeds=embeds), present)).items()
        }
    torch.testing.assert_close(terms, expected, rtol=0, atol=1e-12)
    grads = [gradients(total(x), list(output.embeds.values())) for x in (terms, expected)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-9)


def test_of_the_full_width_alone_is_the_loss_itself():
    batch = batch_of(random_output())
    torch.testing.assert_close(total(Matryoshka(widths=[5])(batch)), total(CLIP()(batch)), rtol=0, atol=1e-12)


def test_takes_a_loss_or_what_yaml_has_of_it():
    batch = batch_of(random_output())
    given = Matryoshka(loss=AlignUniform(t=3.0), widths=[2])
    written = get_loss("matryoshka", loss={"name": "align_uniform", "options": {"t": 3.0}}, widths=[2])
    assert given(batch) == written(batch)
    assert list(given(batch)) == ["alignment_2", "uniformity_2"]


@pytest.mark.parametrize(("width", "widths"), [(40, ["40", "20", "10"]), (32, ["32", "16", "8"]), (5, ["5"])])
def test_widths_are_halved_down_to_eight_by_default(width: int, widths: list[str]):
    terms = Matryoshka(loss=AlignUniform())(batch_of(random_output(width=width)))
    assert [name.rpartition("_")[2] for name in terms if name.startswith("alignment")] == widths


def test_a_cut_batch_has_unit_rows_where_rows_are_there_and_cuts_the_queue_too():
    queued = QueuedRows(F.normalize(torch.ones(3, 5, dtype=torch.float64), dim=1), None)
    batch = replace(batch_of(random_output(), masks(TWO, MISSING)), queue={"text": queued})
    narrow = cut(batch, 2)
    torch.testing.assert_close(narrow.world["text"].norm(dim=1), batch.present["text"].double())
    torch.testing.assert_close(narrow.queue["text"].embeds, torch.full((3, 2), 0.5**0.5, dtype=torch.float64))
    assert narrow.local is narrow.world


def test_the_last_columns_learn_nothing_without_the_full_width():
    output = random_output()
    for grad in gradients(total(Matryoshka(widths=[3])(batch_of(output))), list(output.embeds.values())):
        assert grad[:, 3:].eq(0).all()
        assert grad[:, :3].ne(0).all()


@pytest.mark.parametrize("modalities", [TWO, THREE])
def test_gradients_match_finite_differences(modalities: tuple[str, ...]):
    output = random_output(num_rows=4, width=3, modalities=modalities)

    def value(scale: Tensor, *embeds: Tensor) -> Tensor:
        other = EncoderOutput(dict(zip(modalities, embeds, strict=True)), scale, output.logit_bias)
        return total(Matryoshka(widths=[2, 3], weights=[0.5, 1.0])(batch_of(other)))

    assert gradcheck(value, (output.logit_scale, *output.embeds.values()))


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    losses = [
        Matryoshka(widths=[2, 5]),
        Matryoshka(loss={"name": "clip_divergence", "options": {"weight": 0.5}}, widths=[3], weights=[0.7]),
        Matryoshka(loss={"name": "siglip"}, widths=[2, 4]),
    ]
    check_losses(losses, num_processes, tolerance=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"widths": [2, 6]},
            "`widths` must not exceed the embeddings' width of 5, but got [2, 6]. Drop wider ones.",
        ),
        ({"widths": []}, "`widths` must be distinct and at least 1 each, but got []."),
        ({"widths": [0, 2]}, "`widths` must be distinct and at least 1 each, but got [0, 2]."),
        ({"widths": [2, 2]}, "`widths` must be distinct and at least 1 each, but got [2, 2]."),
        (
            {"widths": [2, 3], "weights": [1.0]},
            "`weights` must hold one number for each of `widths`, but got [1.0] for [2, 3].",
        ),
        ({"weights": [1.0]}, "`weights` must hold one number for each of `widths`, but got [1.0] for None."),
        (
            {"loss": {"t": 3.0}},
            "`loss` as a mapping has the `name` of a loss and optionally `options`, but got t.",
        ),
        (
            {"loss": {"name": "clip", "options": {"t": 3.0}}},
            "The loss 'clip' has no option t. Its options: keep_bytes.",
        ),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Matryoshka(**options)(batch_of(random_output()))
