"""`hf-contrastive push`: finish a push that failed, or push a folder as the trainer does."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hf_contrastive.hub.contents import IGNORED, TRAINING_STATE
from hf_contrastive.hub.failures import PushError, without_secrets
from hf_contrastive.hub.folders import push_copy, upload
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.hub.unpushed import UNPUSHED, Push, read_push, read_pushes


# Exit code where all is complete on disk and not on the Hub: EX_TEMPFAIL of sysexits.h.
NOT_PUSHED = 75
EXAMPLES = """\
examples:
  hf-contrastive push outputs/clip_decoupled your-name/your-encoder
  hf-contrastive push outputs/clip_decoupled your-name/your-encoder --revision trial --private
  hf-contrastive push outputs/clip_decoupled/_unpushed/checkpoint-100
  hf-contrastive push outputs/clip_decoupled/_unpushed
"""


def add_command(commands: Any) -> None:
    """Add the command to the parsers of the command line."""
    parser = commands.add_parser(
        "push",
        help="Push a finished folder, or a checkpoint whose push failed, and keep what was edited on the Hub.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", help="Folder of a model, or `_unpushed` or a copy in it, which knows where it is to go.")
    add("repository", nargs="?", help="Hub id. Not for a copy that knows it.")
    add("--revision", help="Branch, made if there is none. By default main.")
    add("--private", action="store_true", help="Make a new repository private.")
    add("--message", default="Upload a dual encoder", help="Title of the commit. Default: %(default)s.")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Push what the arguments name and say where it is.

    Raises:
        ValueError: They cannot be used, or the card must not be shared.
        OSError: The folder is not there.
        SystemExit: The Hub failed. What it said and how to go on is printed.
    """
    folder = Path(args.folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` is {args.folder!r}, where there is no folder.")
    pushes = _waiting(folder)
    if others := {push.repository for push in pushes} - {args.repository or push.repository for push in pushes}:
        raise ValueError(f"{args.folder!r} waits for its push to {min(others)!r}, but got {args.repository!r}.")
    if not pushes:
        _check(folder, args.repository)
    try:
        for push in pushes:
            print(f"Pushed: {push_copy(push)}\nThe copy in {str(push.folder)!r} is no longer needed.")
        if not pushes:
            repository = Repository(name=args.repository, revision=args.revision, private=args.private or None)
            commit = upload(folder, repository, args.message, ignored=_ignored(folder))
            print(f"Pushed: {commit.commit_url}")
    except PushError as error:
        print(error, file=sys.stderr)
        raise SystemExit(NOT_PUSHED) from None


def _waiting(folder: Path) -> list[Push]:
    """What waits in a folder of copies, or in one of them, for its push to a place that is known."""
    if folder.resolve().name == UNPUSHED:
        return read_pushes(folder.resolve().parent)
    push = read_push(folder)
    return [] if push is None else [push]


def _check(folder: Path, repository: str | None) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in `__all__`

    from hf_contrastive.report.checking import CARD, check_card
    from hf_contrastive.report.drafts import RECORD

    if repository is None:
        raise ValueError(f"`repository` is missing: {str(folder)!r} does not say where it is to go.")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        told = f"`repository` is {repository!r}, which is no Hub id: {error}"
        raise ValueError(without_secrets(told)) from None
    card = folder / CARD
    if card.is_file() and RECORD.search(card.read_text(encoding="utf-8")):
        check_card(folder)


def _ignored(folder: Path) -> list[str]:
    """What stays behind; of a checkpoint, the state of its training too."""
    is_checkpoint = (folder / "trainer_state.json").is_file() and folder.name.startswith("checkpoint-")
    return [*IGNORED, *TRAINING_STATE] if is_checkpoint else IGNORED
