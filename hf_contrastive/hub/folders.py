"""Push a finished folder, in one commit."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_contrastive.hub.contents import IGNORED, files_to_push
from hf_contrastive.hub.failures import Patience, PushError, brief, shown
from hf_contrastive.hub.lines import push_line
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.hub.unpushed import Push, forget, root_was_pushed


if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from hf_contrastive.training.training_args import ContrastiveTrainingArguments


def push_folder(folder: str | Path, args: "ContrastiveTrainingArguments") -> str:
    """
    Upload a finished folder to the model repository `args.hub_model_id`, in one commit.

    Args:
        folder (`str` or `Path`):
            Folder with model, processor, card and plots. Checkpoints and other runs in it stay behind.
        args (`ContrastiveTrainingArguments`):
            `hub_model_id`, `hub_token`, `hub_private_repo` and `hub_revision` say where and how, and a third of `ddp_timeout`
            for how long failures are tried again.

    Returns:
        `str`: Address of the commit.

    Raises:
        PushError: The upload failed, after further attempts where that could help. The folder is complete; the message
            says how to upload it later.
    """
    repository = Repository(
        name=str(args.hub_model_id), token=args.hub_token, private=args.hub_private_repo, revision=args.hub_revision
    )
    title = "Upload a dual encoder trained with hf_contrastive"
    return str(upload(folder, repository, title, patience=Patience.of(args)).commit_url)


def upload(
    folder: str | Path,
    repository: Repository,
    message: str,
    *,
    ignored: Sequence[str] = IGNORED,
    patience: Patience | None = None,
) -> "CommitInfo":
    """Open a repository and commit a finished folder to it. Raises a PushError that says how to do it later."""
    from hf_contrastive.report.remote import keep_edits_on_hub

    merged = ""

    def contents(head: str) -> dict[str, Path | bytes]:
        # What people write into the card while the weights are sent makes the commit fail, and is merged as well.
        nonlocal merged
        if head != merged:
            keep_edits_on_hub(folder, name, token=repository.token, revision=revision)
            merged = head
        return files_to_push(folder, ignored, token=repository.secret)

    try:
        # Before anything is asked of the Hub: a folder that must not be pushed.
        files_to_push(folder, ignored, token=repository.secret)
        name, revision = repository.open(patience=patience), repository.revision
        commit = repository.commit(name, contents, message, patience=patience)
    except Exception as error:
        failure = _failure(
            error,
            repository,
            f"{str(folder)!r} holds the model, its processor, card and plots",
            push_line(Path(folder), repository),
        )
    else:
        root_was_pushed(Path(folder).absolute(), name, revision)
        return commit
    # Not where it was caught: what it then has for a context may hold the token.
    raise failure


def push_copy(push: Push) -> str:
    """
    Push a checkpoint that an earlier process could not push to where it was to go.

    Args:
        push ([`Push`]):
            The push, see [`read_push`]. Its record is deleted, its copy stays.

    Returns:
        `str`: Address of the commit.

    Raises:
        PushError: It failed again; the message says how to go on.
    """
    repository = push.target
    try:
        files = push.files(repository.secret)
        commit = repository.commit(repository.open(), files, push.title)
    except Exception as error:
        failure = _failure(error, repository, f"{str(push.folder)!r} is complete", push_line(push.folder))
    else:
        forget(push.folder, keep_copy=True)
        return str(commit.commit_url)
    raise failure


def _failure(error: Exception, repository: Repository, complete: str, line: str) -> PushError:
    failure = PushError(
        f"The push to {repository.name!r} failed: {brief(error, repository.secret)}\n"
        f"Nothing is lost: {complete}. Push it later with\n  {line}"
    )
    failure.__cause__ = shown(error, repository.secret)
    return failure
