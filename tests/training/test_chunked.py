"""A batch embedded in chunks against one embedded at once, in double precision."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.losses import CLIP, SigLIP, total
from hf_contrastive.testing import batch_of
from hf_contrastive.training.chunked import encode_in_chunks
from hf_contrastive.training.micro_batches import split_rows
from hf_contrastive.training.random_state import RandomState
from tests.conftest import make_inputs
from tests.towers.test_frozen import CHECKPOINTING


THREE = ("audio", "image", "text")
ROWS, CHUNK = 8, 3
PLENTY = 2**30


class Towers(nn.Module):
    """One small tower per modality, with a temperature and a bias."""

    def __init__(self, *modalities: str, dropout: float = 0.0, norm: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.towers = nn.ModuleDict({m: tower(dropout, norm) for m in modalities})
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-1.0))
        self.calls = dict.fromkeys(modalities, 0)
        self.double()

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return {f"{m}_embeds": self.towers[m](inputs[m]) for m in self.towers}


def tower(dropout: float, norm: type[nn.Module]) -> nn.Module:
    layers = [nn.Linear(6, 10), nn.GELU(), nn.Dropout(dropout), nn.Linear(10, 5)]
    return nn.Sequential(*layers[:1], norm(10) if norm is not nn.Identity else norm(), *layers[1:])


def inputs_of(*modalities: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(ROWS, 6, generator=generator, dtype=torch.float64) for m in modalities}


def encoder(model: nn.Module) -> Callable[[Any], EncoderOutput]:
    def encode(chunk: Any) -> EncoderOutput:
        with contrastive_forward(model):
            return model(**chunk)

    return encode


def loss_of(output: EncoderOutput, present: dict[str, Tensor] | None = None) -> Tensor:
    batch = batch_of(output, present)
    loss = total(CLIP()(batch))
    return loss if output.logit_bias is None else loss + total(SigLIP()(batch))


def joined(outputs: list[EncoderOutput]) -> EncoderOutput:
    """Embeddings of all chunks with the graphs of all of them."""
    return outputs[-1]._replace(embeds={m: torch.cat([o.embeds[m] for o in outputs]) for m in outputs[0].embeds})


def gradients(model: nn.Module, output: EncoderOutput, **kwargs: Any) -> dict[str, Tensor | None]:
    model.zero_grad()
    loss_of(output, **kwargs).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def chunked(model: nn.Module, inputs: dict[str, Tensor], keep_bytes: int = 0, **kwargs: Any) -> EncoderOutput:
    chunks = split_rows(inputs, CHUNK)
    return encode_in_chunks(encoder(model), chunks, model=model, keep_bytes=keep_bytes, **kwargs)


def assert_same(actual: dict[str, Tensor | None], expected: dict[str, Tensor | None], tolerance: float = 1e-9) -> None:
    assert {name for name, g in actual.items() if g is None} == {name for name, g in expected.items() if g is None}
    for name, g in expected.items():
        if g is not None:
            torch.testing.assert_close(actual[name], g, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def differ(actual: dict[str, Tensor | None], expected: dict[str, Tensor | None]) -> float:
    return max((actual[n] - g).abs().max().item() for n, g in expected.items() if g is not None)


@contextmanager
def counted(*modules: nn.Module) -> Iterator[list[int]]:
    """How often each module's own forward runs."""
    counts = [0] * len(modules)

    def count(place: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            counts[place] += 1

        return hook

    handles = [module.register_forward_hook(count(place)) for place, module in enumerate(modules)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


# ---- Gradients ----


@pytest.mark.parametrize("modalities", [("image", "text"), THREE])
@pytest.mark.parametrize("keep_bytes", [0, 3000, PLENTY])
def test_chunking_changes_neither_value_nor_gradient(modalities: tuple[str, ...], keep_bytes: int):
    model, inputs = Towers(*modalities), inputs_of(*modalities)
    whole = encoder(model)(inputs)
    expected = gradients(model, whole)
    output = chunked(model, inputs, keep_bytes)
    for m in modalities:
        torch.testing.assert_close(output.embeds[m], whole.embeds[m], rtol=0, atol=1e-12)
    assert_same(gradients(model, output), expected)
    assert expected["logit_scale"].abs() > 1e-3
    assert expected["logit_bias"].abs() > 1e-3


def test_losses_of_chunks_alone_have_another_gradient():
    model, inputs = Towers(*THREE), inputs_of(*THREE)
    expected = gradients(model, encoder(model)(inputs))
    model.zero_grad()
    for chunk in split_rows(inputs, CHUNK):
        (loss_of(encoder(model)(chunk)) / 3).backward()
    assert differ({n: p.grad for n, p in model.named_parameters()}, expected) > 1e-2


@pytest.mark.parametrize(("keep_bytes", "passes"), [(0, 5), (PLENTY, 3)])
def test_chunks_whose_graph_is_kept_run_once(keep_bytes: int, passes: int):
    model = Towers(*THREE)
    with counted(model.towers["image"]) as counts:
        gradients(model, chunked(model, inputs_of(*THREE), keep_bytes))
    assert counts == [passes]


def test_the_budget_says_how_many_graphs_are_kept():
    model, inputs = Towers("image", "text"), {m: x.repeat(4, 1) for m, x in inputs_of("image", "text").items()}
    passes = []
    for budget in range(0, 40_000, 1000):
        with counted(model.towers["image"]) as counts:
            gradients(model, chunked(model, inputs, budget))
        passes.append(counts[0])
    # Eleven chunks, the first of which always has its graph.
    assert sorted(passes, reverse=True) == passes
    assert set(passes) == set(range(11, 22))


def test_a_scaled_loss_scales_the_gradient_and_gradients_add_up():
    model, inputs = Towers(*THREE), inputs_of(*THREE)
    other = {m: x.flip(0) + 1 for m, x in inputs.items()}
    sums = []
    for encode in (encoder(model), lambda x: chunked(model, x)):
        model.zero_grad()
        for x in (inputs, other):
            (loss_of(encode(x)) / 4 * 1024).backward()
        sums.append({n: p.grad.clone() for n, p in model.named_parameters()})
    assert_same(sums[1], sums[0])


def test_a_single_chunk_is_embedded_as_it_is():
    model, inputs = Towers(*THREE, norm=nn.BatchNorm1d), inputs_of(*THREE)
    output = encode_in_chunks(encoder(model), [inputs], model=model)
    assert torch.equal(output.embeds["text"], encoder(model)(inputs).embeds["text"])


def test_rows_without_a_modality_do_not_matter():
    model, inputs = Towers(*THREE), inputs_of(*THREE)
    inputs["text"][[0, 5]] = torch.nan
    present = {m: torch.ones(ROWS, dtype=torch.bool) for m in THREE}
    present["text"][[0, 5]] = False
    complete = inputs | {"text": inputs["text"].nan_to_num(7.0)}
    expected = gradients(model, encoder(model)(complete), present=present)
    assert_same(gradients(model, chunked(model, complete), present=present), expected)
    # NaN times zero is NaN in any backward pass; the second pass must not take it for another answer.
    gradients(model, chunked(model, inputs), present=present)


def test_without_gradients_nothing_is_kept():
    model = Towers(*THREE)
    with torch.no_grad():
        output = chunked(model, inputs_of(*THREE))
    assert not output.embeds["text"].requires_grad
    assert not output.logit_scale.requires_grad


def test_a_modality_that_the_loss_leaves_out_gets_no_gradient():
    model, inputs = Towers(*THREE), inputs_of(*THREE)

    def two(output: EncoderOutput) -> EncoderOutput:
        return output._replace(embeds={m: output.embeds[m] for m in ("image", "text")})

    expected = gradients(model, two(encoder(model)(inputs)))
    assert expected["towers.audio.0.weight"] is None
    assert_same(gradients(model, two(chunked(model, inputs))), expected)


# ---- Random numbers ----


class NumPyMask(nn.Module):
    """Drops entries by NumPy's generator, as masks of audio models do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(np.random.rand(*x.shape) > 0.3)


@pytest.mark.parametrize("masks", [nn.Identity, NumPyMask])
@pytest.mark.parametrize("keep_bytes", [0, 3000, PLENTY])
def test_dropout_is_the_same_in_both_passes(masks: type[nn.Module], keep_bytes: int):
    model, inputs = Towers(*THREE, dropout=0.4), inputs_of(*THREE)
    for m in THREE:
        model.towers[m].append(masks())
    results = []
    for run in (
        lambda: joined([encoder(model)(chunk) for chunk in split_rows(inputs, CHUNK)]),
        lambda: chunked(model, inputs, keep_bytes),
    ):
        torch.manual_seed(5)
        np.random.seed(5)
        results.append((gradients(model, run()), torch.rand(1), np.random.rand()))
    assert_same(results[1][0], results[0][0])
    # What comes after the step draws the numbers that it would draw without chunks.
    assert results[1][1:] == results[0][1:]


def test_other_dropout_in_the_second_pass_is_noticed(monkeypatch: pytest.MonkeyPatch):
    model = Towers(*THREE, dropout=0.4)
    monkeypatch.setattr(RandomState, "again", lambda self: nullcontext())
    with pytest.raises(RuntimeError, match=r"The model returned other embeddings when a chunk was embedded again"):
        gradients(model, chunked(model, inputs_of(*THREE)))


# ---- Frozen towers ----


def double_inputs() -> dict[str, Tensor]:
    inputs = make_inputs(ROWS)
    return inputs | {"pixel_values": inputs["pixel_values"].double()}


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_frozen_tower_runs_once(dropout: float):
    model, inputs = Towers(*THREE, dropout=dropout), inputs_of(*THREE)
    model.towers["image"].requires_grad_(False)
    torch.manual_seed(5)
    expected = gradients(model, joined([encoder(model)(chunk) for chunk in split_rows(inputs, CHUNK)]))
    torch.manual_seed(5)
    # Outputs of the frozen tower fit, graphs of the others do not.
    with counted(model.towers["image"][0], model.towers["text"][0]) as counts:
        actual = gradients(model, chunked(model, inputs, keep_bytes=2 * CHUNK * 5 * 8))
    assert counts == [3, 5]
    assert_same(actual, expected)
    assert expected["towers.image.0.weight"] is None


def test_a_frozen_tower_whose_outputs_do_not_fit_runs_again():
    model, inputs = Towers(*THREE), inputs_of(*THREE)
    model.towers["image"].requires_grad_(False)
    expected = gradients(model, encoder(model)(inputs))
    with counted(model.towers["image"][0]) as counts:
        assert_same(gradients(model, chunked(model, inputs, keep_bytes=0)), expected)
    assert counts == [5]


def test_a_frozen_tower_below_a_trained_projection_runs_once(clip: CLIPModel):
    clip.double().vision_model.requires_grad_(False)
    expected = gradients(clip, encoder(clip)(double_inputs()))
    # 3 images, 5 tokens and 1 pooled one of width 16, twice; graphs are larger.
    with counted(clip.vision_model.encoder, clip.text_model.encoder) as counts:
        assert_same(gradients(clip, chunked(clip, double_inputs(), keep_bytes=2 * 3 * 6 * 16 * 8)), expected)
    assert counts == [3, 5]
    assert expected["visual_projection.weight"].abs().max() > 1e-3


class Stack(Towers):
    """A frozen body above a trained layer."""

    def __init__(self) -> None:
        super().__init__("image", "text")
        self.prompt, self.body = nn.Linear(6, 6).double(), tower(0.0, nn.Identity).double().requires_grad_(False)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return {
            "image_embeds": self.towers["image"](inputs["image"]),
            "text_embeds": self.body(self.prompt(inputs["text"])),
        }


def test_frozen_weights_above_trained_ones_run_again():
    model, inputs = Stack(), inputs_of("image", "text")
    expected = gradients(model, encoder(model)(inputs))
    assert expected["prompt.weight"].abs().max() > 1e-3
    assert_same(gradients(model, chunked(model, inputs, keep_bytes=500)), expected)


def test_the_temperature_alone_can_be_trained():
    model, inputs = Towers(*THREE), inputs_of(*THREE)
    model.towers.requires_grad_(False)
    expected = gradients(model, encoder(model)(inputs))
    with counted(model.towers["image"]) as counts:
        assert_same(gradients(model, chunked(model, inputs)), expected)
    assert counts == [3]
    assert expected["logit_scale"] is not None


def test_a_fixed_temperature_gets_no_gradient():
    model, inputs = Towers(*THREE), inputs_of(*THREE)
    model.logit_scale.requires_grad_(False)
    expected = gradients(model, encoder(model)(inputs))
    output = chunked(model, inputs)
    assert not output.logit_scale.requires_grad
    assert_same(gradients(model, output), expected)


# ---- Models of transformers and peft ----


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")  # in the pass without a graph
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(clip: CLIPModel, reentrant: bool):
    clip.double()
    expected = gradients(clip, encoder(clip)(double_inputs()))
    getattr(clip, f"{CHECKPOINTING}_enable")({"use_reentrant": reentrant})
    clip.train()
    if reentrant:
        # Reentrant checkpoints need an input with a gradient.
        clip.vision_model.embeddings.register_forward_hook(lambda m, i, out: out.requires_grad_())
        clip.text_model.embeddings.register_forward_hook(lambda m, i, out: out.requires_grad_())
    with counted(clip.vision_model.encoder.layers[0].layer_norm1) as counts:
        assert_same(gradients(clip, chunked(clip, double_inputs())), expected)
    # Once for each of three chunks, again for two, and in three backward passes.
    assert counts == [8]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("keep_bytes", [0, 20_000, PLENTY])
def test_adapters_of_peft_get_the_gradient_of_the_whole_batch(clip: CLIPModel, keep_bytes: int):
    peft = pytest.importorskip("peft", reason="needs peft")
    config = peft.LoraConfig(r=2, target_modules=r".*text_model.*(q_proj|v_proj)", modules_to_save=["text_projection"])
    model = peft.get_peft_model(clip.double(), config).double()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, generator=torch.Generator().manual_seed(0))
    expected = gradients(model, encoder(model)(double_inputs()))
    assert max(g.abs().max() for n, g in expected.items() if "lora_A" in n) > 1e-4
    with counted(model.get_base_model().vision_model.encoder) as counts:
        assert_same(gradients(model, chunked(model, double_inputs(), keep_bytes)), expected)
    assert counts == [5 if keep_bytes == 0 else 3]


@pytest.mark.parametrize("keep_bytes", [0, PLENTY])
def test_mixed_precision_has_the_gradient_of_mixed_precision(clip: CLIPModel, keep_bytes: int):
    inputs = make_inputs(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        reference = joined([encoder(clip)(chunk) for chunk in split_rows(inputs, CHUNK)])
        output = chunked(clip, inputs, keep_bytes)
        whole = encoder(clip)(inputs)
    expected = {n: None if g is None else g.clone() for n, g in gradients(clip, reference).items()}
    # The second pass runs outside of the context and has its precision all the same.
    largest = max(g.abs().max().item() for g in expected.values() if g is not None)
    differences = [differ(gradients(clip, x), expected) / largest for x in (output, whole, encoder(clip)(inputs))]
    # Gradients of weights add up over chunks in single precision here, in half there.
    assert differences[0] < 2e-3
    # The whole batch at once differs from that by rounding, and single precision does too.
    assert differences[1] < 2e-2
    assert differences[2] > 2 * differences[0]


# ---- Processes ----


@pytest.mark.parametrize("keep_bytes", [0, PLENTY])
def test_gradients_are_synchronized_once(keep_bytes: int):
    model, log = Towers(*THREE), []

    @contextmanager
    def no_sync() -> Iterator[None]:
        log.append(True)
        yield
        log.pop()

    seen = []

    def encode(chunk: Any) -> EncoderOutput:
        if torch.is_grad_enabled():
            seen.append(bool(log))
        return encoder(model)(chunk)

    chunks = split_rows(inputs_of(*THREE), CHUNK)
    gradients(model, encode_in_chunks(encode, chunks, model=model, keep_bytes=keep_bytes, no_sync=no_sync))
    # Graphs of three chunks, of which the last alone is outside of the context.
    assert seen == [True, True, False]


# ---- Refusals ----


def test_a_layer_that_mixes_rows_is_refused_in_training():
    model, inputs = Towers(*THREE, norm=nn.BatchNorm1d), inputs_of(*THREE)
    with pytest.raises(
        ValueError, match=r"`towers.audio.1` is a BatchNorm1d in training mode: .* `encode_chunk_size`"
    ):
        chunked(model, inputs)
    model.eval()
    expected = gradients(model, encoder(model)(inputs))
    assert_same(gradients(model, chunked(model, inputs)), expected)


def test_a_second_backward_pass_is_refused():
    model = Towers(*THREE)
    loss = chunked(model, inputs_of(*THREE)).embeds["text"].sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can go backward once"):
        loss.backward()


def test_kept_embeddings_keep_no_inputs():
    model, chunks = Towers(*THREE), split_rows({m: x.clone() for m, x in inputs_of(*THREE).items()}, CHUNK)
    output = encode_in_chunks(encoder(model), chunks, model=model, keep_bytes=0)
    inputs = [weakref.ref(chunk["text"]) for chunk in chunks]
    loss_of(output).backward()
    chunks.clear()
    gc.collect()
    assert [x() for x in inputs] == [None] * 3
    assert output.embeds["text"].grad_fn is not None


class Counting(Towers):
    """Returns something else at each call."""

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        self.calls["image"] += 1
        return super().forward(**{m: x + self.calls["image"] for m, x in inputs.items()})


def test_a_model_that_does_not_repeat_itself_is_refused():
    model = Counting("image", "text")
    with pytest.raises(RuntimeError, match=r"The model returned other embeddings when a chunk was embedded again"):
        gradients(model, chunked(model, inputs_of("image", "text")))


def test_chunks_of_other_modalities_are_refused():
    model = Towers(*THREE)
    model.forward = lambda **inputs: {f"{m}_embeds": model.towers[m](x) for m, x in inputs.items()}
    chunks = [inputs_of("image", "text"), inputs_of("audio", "text")]
    with pytest.raises(ValueError, match=r"one has \['image', 'text'\] and one \['audio', 'text'\]"):
        encode_in_chunks(encoder(model), chunks, model=model)
