"""The list of a checkpoint's files, written last: with it a checkpoint is complete, without it its save was interrupted."""

import hashlib
import json
import os
from pathlib import Path

from hf_contrastive.hub.untrusted import UntrustedError, inside


MANIFEST = "checkpoint_complete.json"
# Files up to this size are hashed whole, of larger ones blocks that are spread evenly over them.
WHOLE, BLOCK, NUM_BLOCKS = 1 << 20, 1 << 16, 16


def write_manifest(folder: str | Path) -> None:
    """Declare a checkpoint complete: names, sizes and hashes of its files, in one step.

    Call it by hand for a checkpoint of another Trainer that is known to be whole.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    entries = {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "hash": _digest(path)} for path in files}
    unfinished = folder / f"{MANIFEST}.tmp"
    unfinished.write_text(json.dumps({"files": entries}, indent=1), encoding="utf-8")
    unfinished.replace(folder / MANIFEST)


def faults_of(folder: str | Path) -> list[str]:
    """What is wrong with a checkpoint, one entry per file; empty if it is complete."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        return [f"{MANIFEST} is missing, so its save was interrupted"]
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{MANIFEST} is no manifest ({error!r})"]
    found = []
    for name, entry in entries.items():
        try:
            path = inside(folder, name, MANIFEST)
        except UntrustedError as error:
            found.append(str(error).rstrip("."))
            continue
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry["bytes"]:
            found.append(f"{name} has {path.stat().st_size} of {entry['bytes']} bytes")
        elif _digest(path) != entry["hash"]:
            found.append(f"{name} has other contents than were written")
    return found


def _digest(path: Path) -> str:
    """A hash of a whole small file, or of blocks of a large one: torn writes and lost pages, not tampering."""
    size = path.stat().st_size
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        if size <= WHOLE:
            state.update(file.read())
        else:
            for block in range(NUM_BLOCKS):
                file.seek(block * (size - BLOCK) // (NUM_BLOCKS - 1), os.SEEK_SET)
                state.update(file.read(BLOCK))
    return state.hexdigest()
