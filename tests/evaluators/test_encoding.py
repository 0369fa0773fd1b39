from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hf_contrastive.data import PairDataset
from hf_contrastive.evaluators import Encoder, Evaluator, ModelEncoder, TextSimilarity, ZeroShot, evaluate_all
from hf_contrastive.models import load_dual_encoder
from tests.conftest import make_pairs


TEXTS = ["a red picture", "blue", "something green in a long sentence", "white", "black and yellow"]


@pytest.fixture(scope="module")
def pair(saved_clip: Path) -> tuple[Any, Any]:
    return load_dual_encoder(str(saved_clip))


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_embeddings_are_those_of_the_model_in_order(pair: tuple[Any, Any], batch_size: int):
    model, processor = pair
    encode = ModelEncoder(model, processor, batch_size=batch_size)
    images = [row["image"] for row in PairDataset(make_pairs(5))]
    inputs = processor(text=TEXTS, images=images, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        output = model.eval()(**inputs)
    torch.testing.assert_close(encode("text", TEXTS), F.normalize(output.text_embeds), rtol=0, atol=1e-6)
    torch.testing.assert_close(encode("image", images), F.normalize(output.image_embeds), rtol=0, atol=1e-6)


def test_lengths_are_kept_on_request(pair: tuple[Any, Any]):
    model, processor = pair
    found = ModelEncoder(model, processor, normalize=False)("text", TEXTS)
    with torch.no_grad():
        inputs = processor(text=TEXTS, return_tensors="pt", padding=True, truncation=True)
        expected = model.eval().get_text_features(**inputs).pooler_output
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_model_is_left_as_it_was(pair: tuple[Any, Any]):
    model, processor = pair
    model.train()
    assert not ModelEncoder(model, processor)("text", TEXTS).requires_grad
    assert model.training
    assert "forward" not in vars(model)


class Towers(nn.Module):
    """A model without `get_text_features`, whose forward takes one modality or two."""

    device = torch.device("cpu")

    def forward(self, **inputs: Any) -> dict[str, Any]:
        return {"text_embeds": inputs["x"]} if "x" in inputs else {"loss": torch.zeros(())}


def test_a_model_whose_forward_embeds_one_modality_will_do():
    def processor(text: list[float], return_tensors: str) -> dict[str, Any]:
        return {"x": torch.tensor(text).unsqueeze(1) * torch.ones(1, 4)}

    found = ModelEncoder(Towers(), processor, processor_kwargs={})("text", [1.0, 2.0])
    torch.testing.assert_close(found, torch.full((2, 4), 0.5))


def test_a_modality_that_the_model_lacks_is_named():
    encode = ModelEncoder(Towers(), lambda **_: {}, processor_kwargs={})
    with pytest.raises(ValueError, match=r"Towers has no `get_audio_features`, and its forward returned \['loss'\]"):
        encode("audio", [1.0])


def test_features_of_another_shape_are_refused():
    encode = ModelEncoder(Towers(), lambda **_: {"x": torch.zeros(3, 2, 4)}, processor_kwargs={})
    with pytest.raises(
        ValueError, match=r"text features of 3 values must have shape \(values, width\), not \[3, 2, 4\]"
    ):
        encode("text", ["a", "b", "c"])


def test_nothing_to_embed_is_refused(pair: tuple[Any, Any]):
    with pytest.raises(ValueError, match="There is no text to embed"):
        ModelEncoder(*pair)("text", [])


def test_a_processor_and_a_batch_are_needed(pair: tuple[Any, Any]):
    with pytest.raises(ValueError, match="need a processor"):
        ModelEncoder(pair[0], None)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, but got 0"):
        ModelEncoder(*pair, batch_size=0)


def test_evaluators_run_by_themselves(pair: tuple[Any, Any]):
    rows = [{"image": row["image"], "label": i % 2} for i, row in enumerate(PairDataset(make_pairs(6)))]
    evaluator = ZeroShot(rows, ["red", "green"], ["a {} picture"])
    assert isinstance(evaluator, Evaluator)
    encode = ModelEncoder(*pair, progress=True)
    assert isinstance(encode, Encoder)
    assert 0 <= evaluator(encode)["zeroshot/top1"] <= 1


def test_two_evaluators_with_metrics_of_one_name_are_refused():
    def constant(encode: Encoder) -> dict[str, float]:
        return {"x": 1.0}

    with pytest.raises(ValueError, match="Two of the `evaluators` report 'x'"):
        evaluate_all([constant, constant], lambda modality, values: torch.zeros(0, 1))


def test_the_bar_names_the_evaluator(pair: tuple[Any, Any], capsys: pytest.CaptureFixture[str]):
    scored = [{"sentence1": "red", "sentence2": t, "score": i} for i, t in enumerate(TEXTS)]
    evaluate_all([TextSimilarity(scored, name="colors")], ModelEncoder(*pair, progress=True), progress=True)
    shown = capsys.readouterr().err
    assert "evaluators" in shown
    assert "colors" in shown
    assert "embedding text" in shown
