"""Lines of code for a card."""

from pathlib import Path
from typing import Any

import pytest
from transformers import ASTFeatureExtractor

from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.snippets import snippets, usage_snippet
from hf_contrastive.report.towers import describe_towers
from tests.export.cases import encoder


def facts(**changed: Any) -> TrainingFacts:
    defaults = {"dataset": "scenes", "train_rows": 1, "base_model": None, "modalities": ("image", "text")}
    plain = changed.get("model_type", "clip") == "clip"
    return TrainingFacts(**{**defaults, "model_type": "clip", "plain": plain, **changed})


@pytest.mark.parametrize("folder", ["it's", 'a "quoted" one', "back\\slash"])
def test_the_code_is_python_whatever_the_folder(folder: str):
    code = usage_snippet(folder)
    names = [constant for constant in compile(code, "card", "exec").co_consts if isinstance(constant, str)]
    assert folder in names


@pytest.mark.parametrize("zero_shot", [True, False])
def test_only_what_the_pipeline_runs_is_shown_with_it(zero_shot: bool):
    found = snippets("x", facts(), zero_shot=zero_shot)
    assert any("pipeline(" in code for _, code in found) == zero_shot


def test_other_modalities_are_loaded_with_our_class():
    ((_, code),) = snippets("x", facts(modalities=("audio", "text"), model_type="multi_encoder"), zero_shot=False)
    assert code.startswith("import hf_contrastive")
    compile(code, "card", "exec")


def run(code: str, out: Any) -> str:
    exec(compile(code, "card", "exec"), {"__name__": "card"})
    return str(out.readouterr().out)


def test_what_is_shown_for_joined_towers_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = encoder({"image": "vit", "query": "bert", "audio": "ast"}, shared={"document": "query"})
    parts = {m: x.processor for m, x in encoder({"image": "vit", "query": "bert"}).processor.modalities.items()}
    sounds = ASTFeatureExtractor(sampling_rate=8_000, num_mel_bins=8, max_length=16)
    model.processor = MultiEncoderProcessor.for_model(model, parts | {"audio": sounds})
    model.save_pretrained(tmp_path / "joined")
    told = facts(model_type="multi_encoder", towers=describe_towers(model))
    shown = dict(snippets(str(tmp_path / "joined"), told, zero_shot=False))
    assert "encode_image(" in shown["Embed and compare"]
    assert 'encode("query", ' in shown["Embed and compare"]
    assert "tensor([[" in run(shown["Embed and compare"], capsys)
    printed = run(shown["With its processor"], capsys)
    assert all(f"'{name}_embeds'" in printed for name in told.kinds)


def test_precomputed_features_are_shown_with_their_width(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = encoder({"image": "vit", "text": "bert"})
    model = MultiEncoder.from_towers({"product": 5, "text": text.text_model}, width=12)
    model.processor = MultiEncoderProcessor.for_model(model, {"text": text.processor.modalities["text"].processor})
    model.save_pretrained(tmp_path / "joined")
    told = facts(model_type="multi_encoder", towers=describe_towers(model))
    assert told.kinds == {"product": "embedding", "text": "text"}
    for _, code in snippets(str(tmp_path / "joined"), told, zero_shot=False):
        assert run(code, capsys)


def test_texts_of_siglip_are_padded_as_it_was_trained():
    code = usage_snippet("x", model_type="siglip")
    assert 'padding="max_length"' in code
    assert ".sigmoid()" in code
