"""`hf-contrastive push`: finish a push that failed, or push a folder as the trainer does."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_contrastive.hub.contents import IGNORED, TRAINING_STATE


if TYPE_CHECKING:
    from hf_contrastive.hub.repositories import Repository
    from hf_contrastive.hub.unpushed import Push


# Exit code where all is complete on disk and not on the Hub: EX_TEMPFAIL of sysexits.h.
NOT_PUSHED = 75
# What a folder that holds a model has one of.
MARKS = ("config.json", "adapter_config.json", "modules.json")
HELP = "Push a finished folder to the Hub, or a checkpoint whose push failed."
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
        help=HELP,
        description=f"{HELP}\nEdits of the card on the Hub are kept. It needs `hf auth login`, or a token in HF_TOKEN.",
        usage="%(prog)s FOLDER [HUB_ID] [options]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "folder",
        metavar="FOLDER",
        help="Folder of a model, or `_unpushed` of a run or a copy in it: what waits there for its push.",
    )
    add(
        "repository",
        nargs="?",
        metavar="HUB_ID",
        help="Where to, such as your-name/your-encoder. Not needed for copies in `_unpushed`, which have it on record.",
    )
    add("--revision", metavar="BRANCH", help="Branch to push to, made if there is none. Default: main.")
    add("--private", action="store_true", help="Make a new repository private. Default: as your settings say.")
    add(
        "--message", default="Upload a dual encoder", metavar="TEXT", help="Title of the commit. Default: %(default)s."
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Push what the arguments name and say where it is.

    Raises:
        ValueError: They cannot be used, there is no token, or the folder or its card must not be shared.
        OSError: The folder is not there.
        SystemExit: The Hub failed. What it said and how to go on is printed.
    """
    folder = Path(args.folder).expanduser()
    if not folder.is_dir():
        what = f"a file; name its folder, {str(folder.parent)!r}" if folder.is_file() else "not there"
        raise FileNotFoundError(f"`folder` is {args.folder!r}, which is {what}.")
    from hf_contrastive.hub.failures import PushError
    from hf_contrastive.hub.folders import push_copy, upload
    from hf_contrastive.hub.repositories import Repository

    pushes = _waiting(folder)
    if others := {push.repository for push in pushes} - {args.repository or push.repository for push in pushes}:
        raise ValueError(f"{args.folder!r} waits for its push to {min(others)!r}, but got {args.repository!r}.")
    repository = Repository(name=args.repository or "", revision=args.revision, private=args.private or None)
    if not pushes:
        _check(folder, args.folder, repository)
    if repository.secret is None:
        raise ValueError("No token was found. Log in with `hf auth login`, or set the environment variable HF_TOKEN.")
    try:
        for push in pushes:
            print(f"Pushed: {push_copy(push)}\nThe copy in {str(push.folder)!r} is no longer needed.")
        if not pushes:
            _check_privacy(repository)
            commit = upload(folder, repository, args.message, ignored=_ignored(folder))
            print(f"Pushed: {commit.commit_url}")
    except PushError as error:
        print(error, file=sys.stderr)
        raise SystemExit(NOT_PUSHED) from None


def _waiting(folder: Path) -> "list[Push]":
    """What waits in a folder of copies, or in one of them, for its push to a place that is known."""
    from hf_contrastive.hub.unpushed import UNPUSHED, read_push, read_pushes

    if folder.resolve().name != UNPUSHED:
        push = read_push(folder)
        return [] if push is None else [push]
    if not (pushes := read_pushes(folder.resolve().parent)):
        raise ValueError(f"Nothing waits for its push in {str(folder)!r}.")
    return pushes


def _check(folder: Path, given: str, repository: "Repository") -> None:
    """Refuse what cannot be pushed or must not be, before anything is asked of the Hub."""
    if not any((folder / mark).is_file() for mark in MARKS):
        checkpoints = [path.name for path in folder.glob("checkpoint-*") if (path / MARKS[0]).is_file()]
        more = f" Its checkpoints do: {', '.join(sorted(checkpoints))}." if checkpoints else ""
        raise ValueError(f"`folder` {given!r} holds no model: there is no {' or '.join(MARKS[:2])}.{more}")
    if not repository.name:
        line = shlex.join(["hf-contrastive", "push", given, "your-name/your-encoder"])
        raise ValueError(f"`repository` is missing, the Hub id to push to, as in\n  {line}")
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in `__all__`

    from hf_contrastive.hub.contents import files_to_push
    from hf_contrastive.hub.failures import without_secrets
    from hf_contrastive.report.checking import check_card
    from hf_contrastive.report.drafts import RECORD
    from hf_contrastive.report.names import CARD

    try:
        validate_repo_id(repository.name)
    except HFValidationError as error:
        told = f"`repository` is {repository.name!r}, which is no Hub id such as your-name/your-encoder: {error}"
        raise ValueError(without_secrets(told)) from None
    files_to_push(folder, _ignored(folder), token=repository.secret)
    card = folder / CARD
    if card.is_file() and RECORD.search(card.read_text(encoding="utf-8")):
        check_card(folder)


def _check_privacy(repository: "Repository") -> None:
    """Refuse to push to a public repository what is to be private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    from hf_contrastive.hub.failures import PushError, brief, retrying, shown

    if not repository.private:
        return
    try:
        owner = "" if "/" in repository.name else f"{retrying(lambda _: repository.api.whoami())['name']}/"
        info = retrying(lambda _: repository.api.repo_info(f"{owner}{repository.name}"))
    except RepositoryNotFoundError:
        return
    except Exception as error:
        told = f"Nothing was pushed: whether {repository.name!r} is private, the Hub did not say ("
        raise PushError(f"{told}{brief(error, repository.secret)})") from shown(error, repository.secret)
    if not info.private:
        raise ValueError(
            f"{repository.name!r} is there and public, which `--private` does not change. Make it private in its settings on "
            "the Hub, name another, or leave `--private` out. Nothing was pushed."
        )


def _ignored(folder: Path) -> list[str]:
    """What stays behind; of a checkpoint, the state of its training too."""
    is_checkpoint = (folder / "trainer_state.json").is_file() and folder.name.startswith("checkpoint-")
    return [*IGNORED, *TRAINING_STATE] if is_checkpoint else IGNORED
