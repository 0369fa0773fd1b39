"""What of a folder is shared, and what stops a push."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_contrastive.hub.contents import TRAINING_STATE, files_to_push


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "checkpoint-1").mkdir(parents=True)
    (folder / ".git").mkdir()
    save_file({"x": torch.arange(64.0)}, folder / "model.safetensors")
    for name in ("config.json", "training_args.bin", "optimizer.pt", "rng_state_0.pth", ".env", ".git/config"):
        (folder / name).write_text("{}")
    return folder


def test_the_model_is_shared_and_the_rest_stays(folder: Path):
    assert files_to_push(folder, TRAINING_STATE) == {
        name: folder / name for name in ("config.json", "model.safetensors")
    }


def test_an_empty_folder_is_no_model(tmp_path: Path):
    with pytest.raises(ValueError, match="nothing to share"):
        files_to_push(tmp_path)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_of_the_folder_is_not_followed(folder: Path, kind: str):
    secret = folder.parent / "keys"
    secret.mkdir()
    (secret / "id").write_text("private")
    (folder / "notes").symlink_to(secret / "id" if kind == "file" else secret)
    with pytest.raises(ValueError, match=r"'notes' in .* is a link to .*outside of the folder"):
        files_to_push(folder)
    assert "notes" not in files_to_push(folder, ["notes"])


def test_a_link_within_the_folder_is_shared(folder: Path):
    (folder / "same.json").symlink_to("config.json")
    assert "same.json" in files_to_push(folder)


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_weights_that_are_cut_off_are_not_shared(folder: Path, keep: int):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:keep])
    with pytest.raises(ValueError, match=r"'model\.safetensors' .*save (was )?interrupted"):
        files_to_push(folder)


@pytest.mark.parametrize("name", ["README.md", "training_args.bin"])
def test_a_file_with_the_token_in_it_is_not_shared(folder: Path, name: str):
    (folder / name).write_bytes(b"\0login with hf_mine_abc\0")
    with pytest.raises(ValueError, match=f"{name}' holds your access token"):
        files_to_push(folder, (), token="hf_mine_abc")
