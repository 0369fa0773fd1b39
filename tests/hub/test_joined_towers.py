"""From any towers to people who know nothing of this package: trained, pushed, loaded elsewhere, equal embeddings."""

import re
from pathlib import Path

import pytest
import yaml

from tests.export.alone import needs_sentence_transformers, run_alone

from .server import USER, LoopbackHub


# What each program compares its embeddings with; all have a cache of their own.
EXPECTED = """
import sys
import torch
from PIL import Image
from safetensors.torch import load_file
texts, picture = ["a red picture", "green", "something blue and something else"], Image.new("RGB", (20, 30), "red")
expected = load_file(sys.argv[1])
def compare(**rows):
    for name, found in rows.items():
        torch.testing.assert_close(torch.as_tensor(found), expected[name], rtol=0, atol=1e-6)
    print("equal", *sorted(rows))
"""
WITH_US = """
import hf_contrastive
from transformers import AutoModel, AutoProcessor
model, processor = AutoModel.from_pretrained("tester/joined"), AutoProcessor.from_pretrained("tester/joined")
with torch.no_grad():
    output = model(**processor(images=[picture], text=texts))
compare(image=output.image_embeds, text=output.text_embeds)
compare(image=model.encode_image([picture]), text=model.encode("text", texts))
"""
WITHOUT_US = """
from transformers import AutoModel, AutoProcessor, pipeline
model, processor = AutoModel.from_pretrained("tester/plain"), AutoProcessor.from_pretrained("tester/plain")
with torch.no_grad():
    output = model(**processor(images=picture, text=texts, return_tensors="pt", padding=True, truncation=True))
compare(image=output.image_embeds, text=output.text_embeds)
print(type(model).__name__)
classify = pipeline("zero-shot-image-classification", model="tester/plain")
print(classify(picture, candidate_labels=["red", "blue"], hypothesis_template="a {} picture"))
"""
SENTENCES = """
from sentence_transformers import SentenceTransformer
compare(text=SentenceTransformer("tester/texts", device="cpu").encode(texts))
"""


@pytest.fixture(scope="module")
def pushed(module_hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose results are on the Hub."""
    folder = tmp_path_factory.mktemp("joined")
    done = module_hub.run(["-m", "tests.hub.joined_client", str(folder)], folder / "home")
    assert done.returncode == 0, done.stderr
    return folder


def card_of(hub: LoopbackHub, name: str) -> str:
    return hub.files(f"{USER}/{name}")["README.md"].decode()


def metadata_of(hub: LoopbackHub, name: str) -> tuple[str, str]:
    data = yaml.safe_load(card_of(hub, name).split("---\n")[1])
    return data["library_name"], data["pipeline_tag"]


def lines_of(hub: LoopbackHub, name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card_of(hub, name), re.DOTALL)


def test_a_process_with_the_package_gets_the_same_embeddings(module_hub: LoopbackHub, pushed: Path, tmp_path: Path):
    assert {"processor_config.json", "tokenizer.json", "geometry.png"} <= set(module_hub.files(f"{USER}/joined"))
    assert metadata_of(module_hub, "joined") == ("hf_contrastive", "feature-extraction")
    # The lines of the card, one after the other, after our own.
    code = "\n".join([EXPECTED, WITH_US, *lines_of(module_hub, "joined")])
    done = module_hub.run(["-c", code, str(pushed / "rows.safetensors")], tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["equal image text"] * 2
    assert "tensor([[" in done.stdout


def test_a_process_without_it_loads_the_plain_model(module_hub: LoopbackHub, pushed: Path, tmp_path: Path):
    assert metadata_of(module_hub, "plain") == ("transformers", "zero-shot-image-classification")
    code = "\n".join([EXPECTED, WITHOUT_US, *lines_of(module_hub, "plain")])
    env = module_hub.environment(tmp_path / "home")
    out = run_alone(code, pushed / "rows.safetensors", cwd=tmp_path, env=env)
    assert out.splitlines()[:2] == ["equal image text", "VisionTextDualEncoderModel"]
    assert "score" in out


@pytest.mark.slow
@needs_sentence_transformers
def test_sentence_transformers_loads_the_text_tower(module_hub: LoopbackHub, pushed: Path, tmp_path: Path):
    assert metadata_of(module_hub, "texts") == ("sentence-transformers", "sentence-similarity")
    code = "\n".join([EXPECTED, SENTENCES, *lines_of(module_hub, "texts")])
    env = module_hub.environment(tmp_path / "home")
    out = run_alone(code, pushed / "rows.safetensors", cwd=tmp_path, env=env)
    assert out.startswith("equal text\n")


def test_the_card_of_an_export_is_that_of_the_run(module_hub: LoopbackHub, pushed: Path):
    own, of_export = card_of(module_hub, "joined"), card_of(module_hub, "plain")
    measured, found = (
        card.partition("## What was measured")[2].partition("## Licence")[0] for card in (own, of_export)
    )
    assert measured == found != ""
    assert "# plain\n" in of_export
    assert str(pushed) not in of_export
    assert "geometry.png" in module_hub.files(f"{USER}/plain")


def test_the_card_of_one_tower_has_no_figures_of_two(module_hub: LoopbackHub, pushed: Path):
    of_export = card_of(module_hub, "texts")
    assert "Of these, only `text` is here." in of_export
    assert "# texts\n" in of_export
    assert "model-index" not in of_export
    assert "## What was measured" not in of_export
    assert str(pushed) not in of_export
    assert not {"geometry.png", "metrics.json"} & set(module_hub.files(f"{USER}/texts"))
