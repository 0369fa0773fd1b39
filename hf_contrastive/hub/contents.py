"""Which files of a folder are shared, and which must not be."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from hf_contrastive.hub.places import without_places
from hf_contrastive.hub.untrusted import outside


# What a training run leaves in its folder that is not the model.
IGNORED = ["checkpoint-*", "compare_*", "runs/*", "*training_args.bin", "*optimizer.pt", "_*"]
# What a checkpoint holds beside the model, for resuming.
TRAINING_STATE = [
    "*training_args.bin",
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "trainer_state.json",
    "checkpoint_complete.json",
    "loss_log*.safetensors",
    "memory_queue*.safetensors",
    "ema*.safetensors",
    "pytorch_model_fsdp*",
    "global_step*",
    "latest",
    "zero_to_fp32.py",
]
NEVER = [".git", ".git/*", "*/.git", "*/.git/*", "*.cache/huggingface*", "*/.env", ".env"]
# Larger files are weights and data, which no token gets into.
LARGEST_SEARCHED = 32 << 20


def files_to_push(
    folder: str | Path, ignored: Sequence[str] = IGNORED, *, token: str | None = None
) -> dict[str, Path | bytes]:
    """
    The files of a folder that are to be shared, or what they are to hold, by their names in the repository.

    An adapter of a model in a folder of this machine is shared without its name, see [`without_places`].

    Args:
        folder (`str` or `Path`):
            A finished folder.
        ignored (`Sequence[str]`, *optional*):
            Patterns of names that stay behind.
        token (`str`, *optional*):
            A token that no file may hold.

    Raises:
        ValueError: There is nothing to share; a link leads out of the folder; a file holds the token; or weights are not
            whole.
    """
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # public, but not in `__all__`

    folder = Path(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_content(path))
    kept = list(filter_repo_objects(names, ignore_patterns=[*ignored, *NEVER]))
    if not kept:
        raise ValueError(f"There is nothing to share in {str(folder)!r}.")
    for name in kept:
        path = folder / name
        if (target := outside(folder, path)) is not None:
            raise ValueError(
                f"{name!r} in {str(folder)!r} is a link to {str(target)!r}, outside of the folder. Files from there "
                "are not shared unasked: put a copy into its place, or remove it."
            )
        if path.is_file():
            _refuse_unfinished(path, name)
            _refuse_token(path, name, token)
    return {name: without_places(folder / name) for name in kept if (folder / name).is_file()}


def _is_content(path: Path) -> bool:
    # A link to a folder is not gone into, but it is looked at.
    return path.is_file() or path.is_symlink()


def _refuse_unfinished(path: Path, name: str) -> None:
    """Weights whose write was cut off, for example by a full disk, would be unreadable for everyone."""
    if path.suffix != ".safetensors":
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length) if length <= size else b"")
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"{name!r} is no safetensors file: was its save interrupted?") from error
    if size != 8 + length + max(ends, default=0):
        raise ValueError(
            f"{name!r} has {size} of {8 + length + max(ends, default=0)} bytes: its save was interrupted. Save it again."
        )


def _refuse_token(path: Path, name: str, token: str | None) -> None:
    if not token or path.suffix == ".safetensors" or os.path.getsize(path) > LARGEST_SEARCHED:
        return
    if token.encode() in path.read_bytes():
        raise ValueError(f"{name!r} holds your access token, which would be shared with it. Remove it from the file.")
