"""What `contrastive_forward` makes of the models of transformers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPModel, PreTrainedModel
from transformers.utils import ModelOutput

from hf_contrastive import EncoderOutput, contrastive_forward
from tests.conftest import LAYERS, TEXT, make_inputs, tiny_siglip


class Towers(nn.Module):
    """A model that returns what it is told to."""

    def __init__(self, **output: Any) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.output = output

    def forward(self) -> ModelOutput:
        return ModelOutput(self.output)


def encode(model: nn.Module, inputs: dict[str, Tensor] | None = None, **kwargs: Any) -> EncoderOutput:
    with contrastive_forward(model, **kwargs):
        return model(**(make_inputs(4) if inputs is None else inputs))


@pytest.mark.parametrize("learned", [0.0, 2.5])
def test_returns_unit_rows_and_the_exponentiated_scale(model: PreTrainedModel, learned: float):
    model.logit_scale.data.fill_(learned)
    output = encode(model)
    assert list(output.embeds) == ["image", "text"]
    for embeds in output.embeds.values():
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)
    assert output.logit_scale.shape == ()
    assert output.logit_scale.item() == pytest.approx(torch.tensor(learned).exp().item(), rel=1e-6)


def test_the_bias_is_that_of_the_model(model: PreTrainedModel):
    bias = getattr(model, "logit_bias", None)
    if bias is not None:
        bias.data.fill_(-3.0)
    found = encode(model).logit_bias
    assert (None if found is None else found.item()) == (None if bias is None else -3.0)


def test_a_bias_without_a_dimension_is_not_returned_as_the_parameter():
    # DDP counts the gradient of a parameter that is in an output twice.
    model = tiny_siglip()
    model.logit_bias = nn.Parameter(torch.tensor(-2.0))
    with contrastive_forward(model):
        bias = model(**make_inputs(3)).logit_bias
    assert bias is not model.logit_bias
    assert bias.item() == -2.0
    assert torch.autograd.grad(bias, model.logit_bias)[0] == 1.0


def test_embeddings_are_those_that_the_model_scores_with(model: PreTrainedModel):
    model.eval()
    native, output = model(**make_inputs(4)), encode(model)
    logits = output.logit_scale * output.embeds["image"] @ output.embeds["text"].T
    if output.logit_bias is not None:
        logits = logits + output.logit_bias
    torch.testing.assert_close(logits, native.logits_per_image, atol=1e-5, rtol=1e-5)


def test_gradients_reach_towers_and_scale(model: PreTrainedModel):
    output = encode(model)
    (output.logit_scale * (output.embeds["image"] * output.embeds["text"]).sum()).backward()
    assert model.logit_scale.grad is not None
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "vision" in n)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "text" in n)


def test_scale_and_bias_get_a_zero_gradient_where_a_loss_uses_neither(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
):
    # As DDP wants it of each process.
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    with contrastive_forward(model):
        output = model(**make_inputs(4))
    sum(x[:, 0].sum() for x in output.embeds.values()).backward()
    parameters = [p for name, p in model.named_parameters() if name in ("logit_scale", "logit_bias")]
    assert parameters
    assert [p.grad.item() for p in parameters] == [0.0] * len(parameters)


def test_a_wrapper_returns_the_same(clip: CLIPModel):
    clip.eval()

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = clip

        def forward(self, **inputs: Any) -> Any:
            return self.module(**inputs)

    wrapper = Wrapper()
    with contrastive_forward(clip):
        output = wrapper(**make_inputs(4))
    assert torch.equal(output.embeds["text"], encode(clip).embeds["text"])


def test_outside_the_context_the_model_is_untouched(model: PreTrainedModel):
    encode(model)
    assert not isinstance(model(**make_inputs(4)), EncoderOutput)
    assert model.forward.__func__ is type(model).forward


def test_the_forward_is_restored_after_an_exception(model: PreTrainedModel):
    with pytest.raises(RuntimeError, match="on purpose"), contrastive_forward(model):
        raise RuntimeError("on purpose")
    assert model.forward.__func__ is type(model).forward


def test_the_context_leaves_no_attribute_behind(clip: CLIPModel):
    before = set(vars(clip))
    encode(clip)
    assert set(vars(clip)) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_promoted(clip: CLIPModel, dtype: torch.dtype):
    inputs = make_inputs(4)
    output = encode(clip.to(dtype), inputs | {"pixel_values": inputs["pixel_values"].to(dtype)})
    assert output.logit_scale.dtype == torch.float32
    for embeds in output.embeds.values():
        assert embeds.dtype == torch.float32
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)


def test_double_precision_is_kept(clip: CLIPModel):
    inputs = make_inputs(4)
    output = encode(clip.double(), inputs | {"pixel_values": inputs["pixel_values"].double()})
    assert output.logit_scale.dtype == output.embeds["image"].dtype == torch.float64


# ---- Modalities ----


def test_any_number_of_modalities_is_returned_in_alphabetical_order():
    rows = torch.eye(3)
    assert list(encode(Towers(text_embeds=rows, audio_embeds=rows, image_embeds=rows), {}).embeds) == [
        "audio",
        "image",
        "text",
    ]


def test_only_the_asked_modalities_are_kept():
    rows = torch.eye(3)
    model = Towers(text_embeds=rows, audio_embeds=rows, image_embeds=rows)
    assert set(encode(model, {}, modalities=["text", "audio"]).embeds) == {"audio", "text"}


def test_what_is_no_matrix_of_embeddings_is_passed_over():
    rows = torch.eye(3)
    model = Towers(text_embeds=rows, image_embeds=rows, token_embeds=torch.ones(3, 2, 2), other_embeds=None, loss=rows)
    assert set(encode(model, {}).embeds) == {"image", "text"}


# ---- Errors ----


def test_a_model_without_temperature_is_refused():
    model = BertModel(BertConfig(**LAYERS, **TEXT))
    with pytest.raises(ValueError, match=r"BertModel has no `logit_scale`.* Add it to the model"):
        encode(model)


@pytest.mark.parametrize(
    "make", [lambda: Towers(text_embeds=torch.eye(3)), lambda: Towers(loss=torch.tensor(1.0))], ids=["one", "none"]
)
def test_fewer_modalities_than_two_are_refused(make: Callable[[], nn.Module]):
    model = make()
    with pytest.raises(ValueError, match=r"needs two or more modalities, but Towers returned \['\w+'\].*every tower"):
        encode(model, {})
    assert model.forward.__func__ is Towers.forward


def test_a_modality_that_is_not_returned_is_refused():
    rows = torch.eye(3)
    with pytest.raises(ValueError, match=r"asks for \['audio'\], but Towers returned \['image', 'text'\]"):
        encode(Towers(text_embeds=rows, image_embeds=rows), {}, modalities=["text", "audio"])
