"""One temperature and bias for each pair of modalities."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.losses import CLIP, ContrastiveLoss, SigLIP, get_loss, list_losses, total
from hf_contrastive.pair_scales import scale_and_bias_fields
from hf_contrastive.testing import batch_of, check_losses, random_output
from hf_contrastive.training.measure import describe, measure


THREE = ("audio", "image", "text")
# Absolute differences in double precision.
TOLERANCE = 1e-9


def with_scales(scale: Tensor, bias: Tensor) -> EncoderOutput:
    return EncoderOutput(random_output(modalities=THREE).embeds, scale.requires_grad_(), bias.requires_grad_())


def doubles(*values: float) -> Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


LOSSES = [info for info in list_losses() if info.name != "weighted_sum"]
WITHIN = [(name, {"within": True}) for name in ("info_nce", "dcl", "debiased", "hard_negative", "sup_con")]
CASES = [(info.name, {}) for info in LOSSES] + WITHIN


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}{'_within' * bool(o)}" for name, o in CASES])
@pytest.mark.parametrize("with_ids", [False, True], ids=["plain", "ids"])
def test_pairs_with_equal_scales_are_one_scale(name: str, options: dict[str, bool], with_ids: bool):
    loss = get_loss(name, **options)
    results = []
    for output in (
        with_scales(doubles(7.0), doubles(-2.0)),
        with_scales(doubles(7.0, 7.0, 7.0), doubles(-2.0, -2.0, -2.0)),
    ):
        ids = torch.arange(8) // 2 if with_ids else None
        value = total(loss(ContrastiveBatch.whole(*output, ids=ids)))
        value.backward()
        grads = [output.embeds["text"].grad, *(z.grad for z in output[1:])]
        results.append([value.detach(), *(torch.zeros(()) if g is None else g for g in grads)])
    one, three = results
    for a, b in zip(one, (*three[:2], three[2].sum(), three[3].sum()), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=TOLERANCE, check_dtype=False)


def dense(scales: dict[tuple[str, str], float], embeds: dict[str, Tensor]) -> Tensor:
    """CLIP of each pair of modalities with a scale of its own, by torch's cross-entropy."""
    target, values = torch.arange(8), []
    for (first, second), scale in scales.items():
        logits = scale * embeds[first] @ embeds[second].T
        values += [F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)]
    return torch.stack(values).mean()


SCALES = {("audio", "image"): 3.0, ("audio", "text"): 7.0, ("image", "text"): 20.0}


@pytest.mark.parametrize("loss", [CLIP(), get_loss("info_nce")], ids=["clip", "info_nce"])
def test_each_pair_has_its_own_scale(loss: ContrastiveLoss):
    output = with_scales(doubles(*SCALES.values()), doubles(-2.0))
    wanted = dense(SCALES, output.embeds)
    torch.testing.assert_close(total(loss(batch_of(output))), wanted, rtol=0, atol=TOLERANCE)


def test_a_softmax_over_two_modalities_has_the_scale_of_their_pair():
    output = with_scales(doubles(*SCALES.values()), doubles(-2.0))
    values = []
    for (first, second), scale in SCALES.items():
        for q, k in ((first, second), (second, first)):
            x, y = output.embeds[q], output.embeds[k]
            own = (scale * x @ x.T).fill_diagonal_(-math.inf)
            values.append(F.cross_entropy(torch.cat([scale * x @ y.T, own], dim=1), torch.arange(8)))
    loss = get_loss("info_nce", within=True)(batch_of(output))
    torch.testing.assert_close(total(loss), torch.stack(values).mean(), rtol=0, atol=TOLERANCE)


def test_siglip_has_a_bias_for_each_pair():
    biases = doubles(-1.0, -2.0, -3.0)
    output = with_scales(doubles(*SCALES.values()), biases)
    signs = 2 * torch.eye(8, dtype=torch.float64) - 1
    wanted = [
        -F.logsigmoid(signs * (scale * output.embeds[a] @ output.embeds[b].T + bias)).sum(dim=1).mean()
        for ((a, b), scale), bias in zip(SCALES.items(), biases, strict=True)
    ]
    loss = SigLIP()(batch_of(output))["siglip"]
    torch.testing.assert_close(loss, torch.stack(wanted).mean(), rtol=0, atol=TOLERANCE)


def test_what_concerns_all_modalities_has_the_mean_of_their_pairs():
    batch = batch_of(with_scales(doubles(2.0, 4.0, 27.0), doubles(-1.0, -2.0, -6.0)))
    assert batch.logit_scale.item() == pytest.approx(6.0)
    assert batch.logit_bias.item() == pytest.approx(-3.0)
    assert batch.scale_of("text", "audio").item() == pytest.approx(4.0)
    assert batch.scale_of("audio").item() == pytest.approx(math.sqrt(8.0))
    assert batch.scale_of(*THREE).item() == pytest.approx(6.0)
    assert batch.bias_of("text", "image").item() == pytest.approx(-6.0)


def test_every_pair_is_logged():
    output = with_scales(doubles(2.0, 4.0, 27.0), doubles(-1.0, -2.0, -6.0))
    expected = {"logit_scale": 6.0, "logit_scale/audio_image": 2.0, "logit_scale/audio_text": 4.0}
    expected["logit_scale/image_text"] = 27.0
    metrics = measure(
        CLIP(), EncoderOutput({m: x.detach() for m, x in output.embeds.items()}, *output[1:]), pool_size=8
    )
    assert {name: x for name, x in metrics.items() if name.startswith("logit_scale")} == pytest.approx(expected)
    biases = {"logit_bias": -3.0, "logit_bias/audio_image": -1.0, "logit_bias/audio_text": -2.0}
    biases["logit_bias/image_text"] = -6.0
    assert describe(batch_of(output), geometry=False) == pytest.approx(expected | biases)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (6,)])
def test_another_number_than_pairs_is_refused(shape: tuple[int, ...]):
    message = r"`logit_scale` must be one number or one for each of the 3 pairs of the modalities \['audio', "
    with pytest.raises(ValueError, match=message):
        scale_and_bias_fields(THREE, torch.ones(shape), None)


@pytest.mark.distributed
@pytest.mark.timeout(120)
@pytest.mark.parametrize("num_processes", [1, 2])
def test_processes_share_the_scales_of_pairs(num_processes: int):
    names = ["clip", "siglip", "nt_xent", "symile"]
    losses = [*map(get_loss, names), get_loss("hard_negative", within=True)]
    check_losses(losses, num_processes, pair_scales=True)
