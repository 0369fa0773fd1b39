"""Hard negatives, from inputs of a tower to what a loss makes of them."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, PreTrainedModel

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_batch
from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.hard_negatives import input_name, without_hard_negatives
from hf_contrastive.losses import InfoNCE, get_loss, list_losses, total
from hf_contrastive.losses.matryoshka import cut
from hf_contrastive.losses.sums import count_negatives
from hf_contrastive.testing import random_output, run_distributed
from hf_contrastive.training.step import refuse_unread
from tests.conftest import make_inputs


TEXT = ("hard_negatives__text__0", "hard_negatives__text__1")
EVERY = ("image", "text", *TEXT)


def inputs_with_hard_negatives(rows: int, k: int = 2) -> dict[str, Tensor]:
    """Inputs of a tiny model whose texts have `k` hard negatives each."""
    everything = make_inputs(rows * (k + 1))
    inputs = {name: x[:rows] for name, x in everything.items()}
    for name in ("input_ids", "attention_mask"):
        inputs[input_name("text", name)] = everything[name][rows:].unflatten(0, (rows, k))
    return inputs


def test_they_pass_through_the_tower_of_their_modality(model: PreTrainedModel):
    model.eval()
    inputs = inputs_with_hard_negatives(4)
    with torch.no_grad(), contrastive_forward(model):
        found = model(**inputs)
        plain = model(**without_hard_negatives(inputs))
        first = {name: inputs[input_name("text", name)][:, 0] for name in ("input_ids", "attention_mask")}
        alone = model(pixel_values=inputs["pixel_values"], **first)
    assert set(found.embeds) == {"image", "text", *TEXT}
    for m in ("image", "text"):
        torch.testing.assert_close(found.embeds[m], plain.embeds[m], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.embeds[TEXT[0]], alone.embeds["text"], rtol=0, atol=1e-6)


def test_hard_negatives_of_no_input_are_refused(clip: CLIPModel):
    inputs = make_inputs(2) | {input_name("text", "words"): torch.ones(2, 1, 6)}
    with (
        contrastive_forward(clip),
        pytest.raises(ValueError, match=r"'hard_negatives__text__words', .* input 'words'"),
    ):
        clip(**inputs)


def test_hard_negatives_of_no_tower_are_refused(clip: CLIPModel):
    inputs = make_inputs(2)
    inputs[input_name("audio", "input_ids")] = inputs["input_ids"].unsqueeze(1)
    with (
        contrastive_forward(clip),
        pytest.raises(ValueError, match=r"negatives of \['audio'\], but the model returned"),
    ):
        clip(**inputs)


def dense(output: EncoderOutput) -> Tensor:
    """Van den Oord et al. 2018, Equation 4, in both directions; queries of images see the hard texts too."""
    image, text = output.embeds["image"], output.embeds["text"]
    keys = torch.cat([text, *(output.embeds[name] for name in TEXT)])
    own = torch.arange(len(image))
    there = F.cross_entropy(output.logit_scale * image @ keys.T, own)
    return (there + F.cross_entropy(output.logit_scale * text @ image.T, own)) / 2


def gradients(value: Tensor, output: EncoderOutput) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, [*output.embeds.values(), output.logit_scale], retain_graph=True)


@pytest.mark.parametrize("name", ["info_nce", "clip"])
@pytest.mark.parametrize("keep_bytes", [0, 2**20])
def test_they_are_further_keys_to_the_other_modality_with_gradients(name: str, keep_bytes: int):
    output = random_output(modalities=EVERY)
    batch = gather_batch(output)
    assert batch.modalities == ["image", "text"]
    value, expected = total(get_loss(name, keep_bytes=keep_bytes)(batch)), dense(output)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)
    for ours, theirs in zip(gradients(value, output), gradients(expected, output), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_they_are_counted_as_negatives():
    batch = gather_batch(random_output(modalities=EVERY))
    of_images, of_texts = count_negatives(batch, [("image", "text")])
    assert of_images.tolist() == [7 + 2 * 8] * 8
    assert of_texts.tolist() == [7] * 8


def test_those_above_the_margin_are_left_out():
    output = random_output(modalities=("image", "text", TEXT[0]))
    x, y, z = (output.embeds[m] for m in ("image", "text", TEXT[0]))
    near, own = x @ torch.cat([y, z]).T, (x * y).sum(dim=1, keepdim=True)
    kept = (near <= own + 0.1) | F.pad(torch.eye(8), (0, 8)).bool()
    assert not kept[:, 8:].all()
    expected = F.cross_entropy((output.logit_scale * near).masked_fill(~kept, -torch.inf), torch.arange(8))
    loss = InfoNCE(anchor="image", symmetric=False)
    torch.testing.assert_close(total(loss(gather_batch(output, margin=0.1))), expected, rtol=0, atol=1e-9)


def test_narrower_embeddings_have_narrower_hard_negatives():
    batch = gather_batch(random_output(modalities=EVERY))
    narrow = cut(batch, 3)
    assert not batch.hard_negatives.is_read
    expected = F.normalize(batch.hard_negatives.read("text")[:, :3], dim=1)
    torch.testing.assert_close(narrow.hard_negatives.read("text"), expected, rtol=0, atol=1e-12)


def check_two_processes() -> None:
    whole, part = random_output(modalities=EVERY), random_output(modalities=EVERY)
    mine = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
    share = InfoNCE()(gather_batch(part._replace(embeds={m: x[mine] for m, x in part.embeds.items()})))["info_nce"]
    expected = dense(whole)
    share.backward()
    expected.backward()
    for actual, wanted in [(share.detach(), expected.detach())] + [
        (part.embeds[m].grad, whole.embeds[m].grad) for m in EVERY
    ]:
        dist.all_reduce(actual)
        torch.testing.assert_close(actual / 2, wanted, rtol=0, atol=1e-9)


@pytest.mark.distributed
def test_two_processes_see_the_hard_negatives_of_both():
    run_distributed(check_two_processes)


def uses(loss: Any, batch: ContrastiveBatch) -> bool:
    loss(batch)
    return batch.hard_negatives.is_read


def test_losses_with_a_softmax_over_the_other_modality_use_them():
    used = set()
    for name in (info.name for info in list_losses()):
        if name != "weighted_sum" and uses(get_loss(name), gather_batch(random_output(modalities=EVERY))):
            used.add(name)
    softmaxes = {
        "clip",
        "clip_divergence",
        "info_nce",
        "dcl",
        "dclw",
        "debiased",
        "hard_negative",
        "nt_xent",
        "simclr",
    }
    assert used == softmaxes | {"matryoshka", "sup_con"}


def test_the_divergence_of_clip_divergence_is_of_the_pairs_alone():
    output = random_output(modalities=EVERY)
    loss = get_loss("clip_divergence", weight=0.5)
    terms = loss(gather_batch(output))
    plain = loss(gather_batch(output._replace(embeds=without_hard_negatives(output.embeds))))
    clip = get_loss("clip")(gather_batch(output))
    torch.testing.assert_close(terms["divergence"], plain["divergence"], rtol=0, atol=1e-12)
    torch.testing.assert_close(terms["clip"], total(clip), rtol=0, atol=1e-9)


def test_a_loss_without_a_use_for_them_is_refused():
    batch = gather_batch(random_output(modalities=EVERY))
    loss = get_loss("siglip")
    loss(batch)
    with pytest.raises(ValueError, match=r"^The data has hard negatives of \['text'\], but SigLIP\(.*no use for them"):
        refuse_unread(batch, loss)
    InfoNCE()(batch)
    refuse_unread(batch, InfoNCE())
