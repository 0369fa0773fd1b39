"""Checkpoints that hold all of the training state, and say whether they are complete."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, sort_checkpoints
from transformers.utils import logging

from hf_contrastive.distributed import from_all, from_main, rank, wait_for_all, world_size
from hf_contrastive.training.manifest import MANIFEST, faults_of, write_manifest
from hf_contrastive.training.replacing import replaced


logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Part:
    """
    A piece of training state that [`~transformers.Trainer`] does not save.

    Args:
        file (`str`):
            Its name in the folder of a checkpoint.
        save (`Callable[[Path], None]`):
            Writes it to a path.
        load (`Callable[[Path], None]`):
            Reads it from a path.
        missing (`str`):
            What happens when a checkpoint has none, for the warning: `"the queue starts empty"`.
        per_process (`bool`, *optional*, defaults to `False`):
            Whether each process has one of its own, whose file is then named by rank. If not, the main one writes it.
        joint (`bool`, *optional*, defaults to `False`):
            Whether all processes must call `save`, which then lets the main one write, because each has a part.
        snapshot (`Callable[[], Any]`, *optional*):
            What to remember at the start of each step; cheap, so references. Only for state that changes before the
            optimizer steps.
        restore (`Callable[[Any], None]`, *optional*):
            Goes back to it, when a step is not finite.
        reset (`Callable[[], None]`, *optional*):
            Makes it what it is at the beginning of a run.
    """

    file: str
    save: Callable[[Path], None]
    load: Callable[[Path], None]
    missing: str
    per_process: bool = False
    joint: bool = False
    snapshot: Callable[[], Any] = lambda: None
    restore: Callable[[Any], None] = lambda _: None
    reset: Callable[[], None] = lambda: None

    def path(self, folder: Path) -> Path:
        """Where it lies in the folder of a checkpoint."""
        name = Path(self.file)
        return folder / (f"{name.stem}_{rank()}{name.suffix}" if self.per_process else name)


class Checkpoints:
    """The parts of a run that [`~transformers.Trainer`] does not save, and the order in which a checkpoint comes about.

    `begin`, the Trainer's own files, `finish`: the manifest is the last file, and only then are older checkpoints deleted.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Save and load a further part."""
        if part.file in {known.file for known in self.parts}:
            raise ValueError(f"A part of checkpoints is already called {part.file!r}.")
        self.parts.append(part)

    def snapshot(self) -> list[Any]:
        """The parts as they are, to [`restore`] when a step is not taken."""
        return [part.snapshot() for part in self.parts]

    def restore(self, snapshots: list[Any]) -> None:
        """Have the parts be as they were."""
        for part, snapshot in zip(self.parts, snapshots, strict=True):
            part.restore(snapshot)

    def reset(self) -> None:
        """Have the parts be as at the beginning of a run."""
        for part in self.parts:
            part.reset()

    def begin(self, folder: Path, args: Any) -> None:
        """Declare a folder incomplete, for it may hold an older checkpoint of the same step."""
        if args.should_save:
            (folder / MANIFEST).unlink(missing_ok=True)
        wait_for_all()

    def finish(self, folder: Path, args: Any, *, best: str | None) -> None:
        """Write the parts, then the manifest, then delete what `save_total_limit` does not keep.

        Args:
            folder: The new checkpoint, with the Trainer's files in it.
            args: Arguments of the run.
            best: The checkpoint of the best model so far.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for part in [part for part in self.parts if args.should_save or part.per_process or part.joint]:
            part.save(part.path(folder))
        if args.should_save:
            # The Trainer wrote them with the limit and the push that it was to leave to us.
            with replaced(args, hub_token=None):
                torch.save(args, folder / TRAINING_ARGS_NAME)
        wait_for_all()
        if args.should_save:
            write_manifest(folder)
            rotate(folder, args.save_total_limit, best=best)

    def load(self, folder: Path) -> None:
        """Read the parts of a checkpoint. Those that it lacks are warned of.

        Raises:
            ValueError: Some processes see a part that is common to all and others do not.
        """
        for part in self.parts:
            path = part.path(folder)
            found = sum(from_all(path.exists()))
            if found == world_size():
                part.load(path)
            elif found and not part.per_process:
                # Different states would mean different collectives, and processes that wait for each other for ever.
                raise ValueError(
                    f"{path} is there on {found} of {world_size()} processes. Resume from a folder that all see."
                )
            else:
                logger.warning(f"The checkpoint has no {path.name}: {part.missing}.")


# ---- Complete or not ----


def last_complete_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint of the highest step in a folder, or None; later ones that are not are warned of."""
    for folder in _by_step(output_dir):
        faults = faults_of(folder)
        if not faults:
            return str(folder)
        logger.warning(f"{folder} is passed over, it is not complete: {'; '.join(faults)}.")
    return None


def resolve_checkpoint(resume_from_checkpoint: str | bool | None, output_dir: str | Path) -> str | None:
    """
    The folder to resume from, the same on every process.

    Args:
        resume_from_checkpoint (`str` or `bool`, *optional*):
            A folder, or `True` (`"true"` on a command line) for the last complete one.
        output_dir (`str` or `Path`):
            Folder of the run's checkpoints.

    Raises:
        ValueError: The folder is missing, not complete or without the optimizer, or there is none that is complete.
    """
    if not _is_set(resume_from_checkpoint):
        return None
    found, message = from_main(lambda: _resolve(resume_from_checkpoint, output_dir))
    if message is not None:
        raise ValueError(message)
    return found


def asks_for_the_last(resume_from_checkpoint: str | bool | None) -> bool:
    """Whether an argument says `True`, or `true` as command lines and YAML files do."""
    return resume_from_checkpoint is True or str(resume_from_checkpoint).lower() == "true"


def has_checkpoints(output_dir: str | Path) -> bool:
    """Whether a folder holds checkpoints, complete or not."""
    return bool(_by_step(output_dir))


def rotate(newest: Path, limit: int | None, *, best: str | None = None) -> None:
    """Delete checkpoints beside a complete one until `limit` are left: incomplete ones first, then the oldest.

    Neither `newest` nor `best` is deleted, so two may be left of a limit of one.
    """
    if limit is None or limit <= 0:
        return
    kept = {newest.resolve()} | ({Path(best).resolve()} if best else set())
    folders = [Path(name) for name in sort_checkpoints(str(newest.parent), use_mtime=True)]
    others = sorted(
        (folder for folder in folders if folder.resolve() not in kept), key=lambda f: (f / MANIFEST).exists()
    )
    for folder in others[: max(0, len(folders) - max(limit, len(kept)))]:
        shutil.rmtree(folder, ignore_errors=True)


def _resolve(resume: str | bool | None, output_dir: str | Path) -> tuple[str | None, str | None]:
    """The folder and None, or None and what is wrong."""
    found, message = _find(resume, output_dir)
    # DeepSpeed has its own folder for the optimizer.
    if found is None or any([*Path(found).glob("optimizer*"), *Path(found).glob("global_step*")]):
        return found, message
    return None, (
        f"The checkpoint {found!r} has weights alone, as `save_only_model` asks: without optimizer, schedule and random "
        "state a run cannot go on. Load the weights (`from_pretrained`) and train anew."
    )


def _find(resume: str | bool | None, output_dir: str | Path) -> tuple[str | None, str | None]:
    """The complete checkpoint that was asked for and None, or None and what is wrong."""
    if asks_for_the_last(resume):
        found = last_complete_checkpoint(output_dir) if Path(output_dir).is_dir() else None
        incomplete = [folder.name for folder in _by_step(output_dir)] if found is None else []
        beside = f", only {', '.join(incomplete)}, which are not" if incomplete else ""
        return found, None if found else f"There is no complete checkpoint in {str(output_dir)!r}{beside}."
    folder = Path(str(resume))
    if not folder.is_dir():
        return None, f"`resume_from_checkpoint` must be a folder or `True`, but there is no folder {str(folder)!r}."
    if not (faults := faults_of(folder)):
        return str(folder), None
    last = last_complete_checkpoint(folder.parent)
    remedy = f"The last complete one beside it is {last!r}." if last else "There is no complete one beside it."
    return None, (
        f"The checkpoint {str(folder)!r} is not complete: {'; '.join(faults)}. {remedy} If you know that it is whole, "
        "for example because another Trainer wrote it, say so with `hf_contrastive.training.manifest.write_manifest(folder)`."
    )


def _is_set(resume: str | bool | None) -> bool:
    return resume not in (None, False) and str(resume).lower() != "false"


def _by_step(output_dir: str | Path) -> list[Path]:
    """Folders of checkpoints, the latest first."""
    steps = {path: re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name) for path in Path(output_dir).glob("*-*")}
    return sorted((p for p, m in steps.items() if m and p.is_dir()), key=lambda p: int(p.name.split("-")[1]))[::-1]
