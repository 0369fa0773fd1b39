"""The main recipe with joined towers, started as a user starts it."""

import json
import shlex
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel, CLIPImageProcessor, ViTConfig, ViTModel, set_seed

from hf_contrastive.command import make_parser
from hf_contrastive.models.from_scratch import train_tokenizer
from tests.conftest import LAYERS, make_pairs
from tests.recipes.test_clip_decoupled import ONE_PROCESS, start


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | int]:
    """Folders of a ViT and a BERT, and the width of features."""
    set_seed(0)
    root = tmp_path_factory.mktemp("towers")
    tokenizer = train_tokenizer(make_pairs(24)["caption"], vocab_size=300, max_tokens=16)
    square = {"height": 16, "width": 16}
    image = ViTModel(ViTConfig(**LAYERS, image_size=16, patch_size=8))
    text = BertModel(BertConfig(**LAYERS, vocab_size=len(tokenizer), max_position_embeddings=16))
    for name, model, processor in (
        ("image", image, CLIPImageProcessor(size=square, crop_size=square)),
        ("text", text, tokenizer),
    ):
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return {"image": str(root / "image"), "text": str(root / "text"), "product": 3}


@pytest.mark.slow
def test_three_towers_are_joined_trained_and_shared_from_the_command_line(
    towers: dict[str, str | int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = make_pairs(160)
    rows = rows.add_column("vector", [[float(row % 3), 1.0, row / 160] for row in range(160)])
    rows.to_parquet(tmp_path / "rows.parquet")
    folder = tmp_path / "joined"
    columns = json.dumps({"product": "vector"})
    options = ["--towers", json.dumps(towers), "--columns", columns, "--width=12", "--head=mlp", "--compare", "clip"]
    steps = ["--max_steps=4", "--logging_steps=2", "--per_device_train_batch_size=16", "--eval_strategy=no"]
    output = start(
        ONE_PROCESS, f"--dataset={tmp_path / 'rows.parquet'}", f"--output_dir={folder}", *options, *steps
    ).stdout
    assert "| measure" in output
    assert "image to product, R@1" in output
    assert {"model.safetensors", "processor_config.json", "geometry.png", "README.md"} <= {
        path.name for path in folder.iterdir()
    }
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in output.splitlines() if "hf-contrastive diagnose " in line]
    args = make_parser().parse_args(shlex.split(line)[1:])
    args.command_line = line
    assert args.columns == {"image": "image", "text": "caption", "product": "vector"}
    args.run(args)
    assert (folder / "diagnosis" / "diagnosis.json").exists()
    (line,) = [line for line in output.splitlines() if "hf-contrastive export " in line]
    args = make_parser().parse_args(shlex.split(line)[1:])
    args.run(args)
    snippet = output[output.index("import hf_contrastive  #") :]
    exec(compile(snippet, "snippet", "exec"), {})
