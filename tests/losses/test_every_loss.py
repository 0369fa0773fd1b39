"""What must hold for every registered loss. A new loss is covered by being registered."""

import math
import re
from dataclasses import MISSING as MISSING_VALUE
from dataclasses import dataclass, fields

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck
from torch.multiprocessing import ProcessRaisedException

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.functional import info_nce
from hf_contrastive.losses import ContrastiveLoss, LossInfo, get_loss, list_losses, total
from hf_contrastive.testing import batch_of, check_loss, check_losses, random_output
from tests.losses.dense import MISSING, THREE, TWO, masks


def can_be_built_bare(info: LossInfo) -> bool:
    return all(f.default is not MISSING_VALUE or f.default_factory is not MISSING_VALUE for f in fields(info.cls))


# A loss that needs options is covered with those that its entry in OPTIONS gives it.
LOSSES = [info for info in list_losses() if can_be_built_bare(info)]
OPTIONS = [
    ("uni_align", {"anchor": "image", "volume_weight": 1.0}),
    ("uni_align", {"anchor": "centroid", "volume_weight": 1.0}),
    ("uni_align", {"anchor": "all", "volume_weight": 1.0}),
    ("align_uniform", {"alpha": 1.0, "t": 3.0}),
    ("info_nce", {"anchor": "text"}),
    ("info_nce", {"anchor": "image", "symmetric": False}),
    ("info_nce", {"within": True}),
    ("dcl", {"within": True}),
    ("debiased", {"within": True}),
    ("hard_negative", {"beta": 0.5, "within": True}),
    ("sup_con", {"within": True}),
    ("gram_volume", {"anchor": "text"}),
    ("uni_align", {"anchor": "random", "volume_weight": 1.0}),
    ("weighted_sum", {"parts": [{"name": "clip"}, {"name": "vicreg", "weight": 0.1}]}),
    ("matryoshka", {"loss": {"name": "clip"}, "widths": [2, 3]}),
    ("clip_divergence", {"weight": 0.0}),
    ("clip_divergence", {"weight": 0.5}),
    ("clip_divergence", {"weight": 1.0, "keep_bytes": 0}),
    ("clip", {"keep_bytes": 0}),
    ("clip", {"keep_bytes": 100}),
]

# They compare whole clouds, or one modality with a distribution, and never see which rows match.
BLIND_TO_PAIRS = {"cauchy_schwarz", "gaussian_kl", "hoelder_divergence", "sliced_gaussian"}
# Parts of their values are constants to the gradient; their own tests compare with such a reference.
WITH_CONSTANTS = {"dclw", "gaussian_kl"}

with_two_and_three = pytest.mark.parametrize("modalities", [TWO, THREE], ids=["two", "three"])


@pytest.fixture(params=LOSSES, ids=[info.name for info in LOSSES])
def loss(request: pytest.FixtureRequest) -> ContrastiveLoss:
    return get_loss(request.param.name)


@pytest.mark.parametrize("info", list_losses(), ids=[info.name for info in list_losses()])
def test_is_documented(info: LossInfo):
    assert info.summary.endswith(".")
    assert len(info.summary) <= 119
    assert ("Args:" in info.cls.__doc__) == bool(info.options)
    assert info.paper is None or re.fullmatch(r"\d{4}\.\d{4,5}", info.paper)
    assert all(f"{option}: " in info.cls.__doc__ for option in info.options)


def test_has_terms_that_are_finite_scalars(loss: ContrastiveLoss):
    for term in loss(batch_of(random_output())).values():
        assert term.shape == ()
        assert term.isfinite()


@with_two_and_three
def test_does_not_depend_on_the_order_of_examples_or_modalities(loss: ContrastiveLoss, modalities: tuple[str, ...]):
    output, present = random_output(modalities=modalities), masks(modalities, MISSING)
    expected = loss(batch_of(output, present))

    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    shuffled = output._replace(embeds={m: output.embeds[m][order] for m in reversed(modalities)})
    actual = loss(batch_of(shuffled, {m: present[m][order] for m in reversed(modalities)}))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@with_two_and_three
@pytest.mark.parametrize(
    "info", [info for info in LOSSES if info.name not in BLIND_TO_PAIRS], ids=lambda info: info.name
)
def test_prefers_matching_pairs(info: LossInfo, modalities: tuple[str, ...]):
    if info.name == "symile" and modalities == THREE:
        pytest.skip("Of three equal vectors the product is the sum of cubes, which has no sign.")
    loss = get_loss(info.name)
    matching = random_output(modalities=modalities)
    matching = matching._replace(embeds=dict.fromkeys(modalities, matching.embeds["image"]))
    shift = {m: place for place, m in enumerate(modalities)}
    mismatched = matching._replace(embeds={m: x.roll(shift[m], dims=0) for m, x in matching.embeds.items()})
    assert total(loss(batch_of(matching))) < total(loss(batch_of(mismatched)))


@with_two_and_three
@pytest.mark.parametrize("garbage", [1e3, float("inf"), float("nan")])
def test_does_not_look_at_absent_embeddings(loss: ContrastiveLoss, modalities: tuple[str, ...], garbage: float):
    output, present = random_output(modalities=modalities), masks(modalities, MISSING)
    expected = total(loss(batch_of(output, present)))

    littered = {m: x.detach().masked_fill(~present[m].unsqueeze(1), garbage) for m, x in output.embeds.items()}
    inputs = [littered[m].requires_grad_() for m in modalities]
    actual = total(loss(batch_of(output._replace(embeds=littered), present)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)

    for m, gradient in zip(modalities, torch.autograd.grad(actual, inputs), strict=True):
        assert gradient[~present[m]].eq(0).all()
        assert gradient[present[m]].isfinite().all()


@with_two_and_three
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_rows_are_enough(loss: ContrastiveLoss, modalities: tuple[str, ...], dtype: torch.dtype):
    assert_finite(loss, cast(random_output(num_rows=2, modalities=modalities), dtype))


@with_two_and_three
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_row_gives_a_moderate_value(loss: ContrastiveLoss, modalities: tuple[str, ...], dtype: torch.dtype):
    assert_finite(loss, cast(random_output(num_rows=1, modalities=modalities), dtype))


@with_two_and_three
@pytest.mark.parametrize("complete", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_complete_rows_give_a_moderate_value(
    loss: ContrastiveLoss, modalities: tuple[str, ...], complete: int, dtype: torch.dtype
):
    present = masks(modalities, {"text": list(range(complete, 8))})
    assert_finite(loss, cast(random_output(modalities=modalities), dtype), present)


def cast(output: EncoderOutput, dtype: torch.dtype) -> EncoderOutput:
    embeds = {m: x.detach().to(dtype).requires_grad_() for m, x in output.embeds.items()}
    return EncoderOutput(embeds, *(x.detach().to(dtype).requires_grad_() for x in output[1:]))


def assert_finite(loss: ContrastiveLoss, output: EncoderOutput, present: dict[str, Tensor] | None = None) -> None:
    value = total(loss(batch_of(output, present)))
    inputs = [*output.embeds.values(), *output[1:]]
    # No loss here can reach a thousand at a scale of 7; the sentinels of empty sums are far beyond.
    assert abs(value.item()) < 1e3
    for gradient in torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True):
        assert gradient.abs().max().item() < 1e3


@with_two_and_three
@pytest.mark.parametrize(
    ("name", "options"), [(info.name, {}) for info in LOSSES if info.name not in WITH_CONSTANTS] + OPTIONS
)
def test_gradients_match_finite_differences(name: str, options: dict[str, object], modalities: tuple[str, ...]):
    output, loss = random_output(num_rows=5, width=3, modalities=modalities), get_loss(name, **options)

    def value(scale: Tensor, bias: Tensor, *embeds: Tensor) -> Tensor:
        return total(loss(batch_of(EncoderOutput(dict(zip(modalities, embeds, strict=True)), scale, bias))))

    # Fast mode compares random projections of the Jacobian; the tests of each loss compare every entry.
    assert gradcheck(value, (*output[1:], *output.embeds.values()), fast_mode=True)


def test_computes_in_the_precision_of_the_embeddings(loss: ContrastiveLoss):
    output = random_output()
    single = total(loss(batch_of(cast(output, torch.float32))))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), total(loss(batch_of(output))), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_computes_half_precision_embeddings_in_single(loss: ContrastiveLoss, dtype: torch.dtype):
    output = random_output()
    half = {m: x.detach().to(dtype).requires_grad_() for m, x in output.embeds.items()}
    scale_and_bias = [z.detach().float().requires_grad_() for z in output[1:]]
    value = total(loss(batch_of(EncoderOutput(half, *scale_and_bias))))
    assert value.dtype == torch.float32
    # The same numbers, in single precision from the start.
    single = {m: x.detach().float() for m, x in half.items()}
    torch.testing.assert_close(
        value, total(loss(batch_of(EncoderOutput(single, *scale_and_bias)))), rtol=1e-5, atol=1e-5
    )


@pytest.mark.distributed
@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_means_the_same_on_several_processes_as_on_one(num_processes: int):
    losses = [get_loss(info.name) for info in LOSSES] + [get_loss(name, **options) for name, options in OPTIONS]
    check_losses(losses, num_processes, tolerance=1e-9)


@dataclass(frozen=True)
class MeanOfLocalRows:
    """Right but where rows are missing unevenly: it divides by the local count."""

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        mine = batch.complete("image", "text")[batch.positives]
        rows = info_nce(
            batch.local["image"],
            batch.world["text"],
            batch.positives,
            batch.logit_scale,
            mask=batch.mask("image", "text"),
        )
        return {"loss": rows[mine].sum() / mine.sum().clamp(min=1)}


@dataclass(frozen=True)
class TimesTheWorld:
    """The world's loss, summed over processes instead of averaged."""

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        processes = len(batch.world["text"]) / len(batch.local["text"])
        return {"loss": total(get_loss("clip")(batch)) * processes}


@dataclass(frozen=True)
class LocalNegatives:
    """Each process on its own."""

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Tensor]:
        keys = F.normalize(batch.local["text"], dim=1)
        positives = torch.arange(len(keys))
        return {"loss": info_nce(batch.local["image"], keys, positives, batch.logit_scale).mean()}


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param(MeanOfLocalRows(), r"rows \[0, 5, 6\] without text: the value differs", id="mean of local rows"),
        pytest.param(TimesTheWorld(), "the value differs by .* more than 1e-09", id="sum over processes"),
        pytest.param(LocalNegatives(), "the value differs by .* more than 1e-09", id="local negatives"),
    ],
)
def test_the_check_refuses_a_loss_that_forgets_the_world(wrong: ContrastiveLoss, message: str):
    with pytest.raises(
        ProcessRaisedException, match=rf"AssertionError: {type(wrong).__name__}\(\) on 2 processes, .*{message}"
    ):
        check_loss(wrong, num_processes=2)


def test_the_world_of_one_process_needs_no_group():
    output = random_output()
    expected = -torch.log_softmax(output.logit_scale * output.embeds["image"] @ output.embeds["text"].T, dim=1)
    value = total(LocalNegatives()(batch_of(output)))
    assert math.isclose(value.item(), expected.diagonal().mean().item(), abs_tol=1e-12)
