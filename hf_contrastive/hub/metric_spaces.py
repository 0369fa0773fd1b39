"""Publish the `evaluate` modules of this package as Spaces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hf_contrastive.hub.failures import PushError, brief, shown
from hf_contrastive.hub.repositories import Repository


# What the Hub takes in the metadata of a Space.
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


def push_metric_to_hub(name: str, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """
    Publish one of this package's `evaluate` modules as a Space, for `evaluate.load(repo_id)` everywhere.

    Who loads it needs this package, as the Space does: its `requirements.txt` says so.

    Args:
        name (`str`):
            One of [`list_metrics`], for example `"uniformity"`.
        repo_id (`str`):
            `owner/name` of the Space. Its script is called as it is, which is where `evaluate.load` looks.
        private (`bool`, *optional*):
            Whether a new Space is private. By default as the owner's settings say.
        token (`str`, *optional*):
            Token with the right to write. By default the one that is logged in.

    Returns:
        `str`: Address of the Space.

    Raises:
        ValueError: There is no such metric, `repo_id` is no `owner/name`, or its metadata are not those of a Space.
        PushError: The upload failed.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in `__all__`

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"`repo_id` is {repo_id!r}, which is no name of a Space: {error}") from error
    if repo_id.count("/") != 1:
        raise ValueError(
            f"`repo_id` must be the owner and the name of a Space, as in 'me/{name}', but is {repo_id!r}."
        )
    files = metric_files(name, repo_id)
    space = Repository(name=repo_id, kind="space", token=token, private=private)
    try:
        full_name = space.open(space_sdk="gradio")
        space.commit(full_name, files, f"Publish the measurement {name} of hf_contrastive")
    except Exception as error:
        failure = PushError(
            f"{name!r} was not published as {repo_id!r}: {brief(error, space.secret)}\n"
            f"Nothing is lost, call `push_metric_to_hub({name!r}, {repo_id!r})` again."
        )
        failure.__cause__ = shown(error, space.secret)
    else:
        return f"{space.api.endpoint}/spaces/{full_name}"
    # Not where it was caught: what it then has for a context may hold the token.
    raise failure


def metric_files(name: str, repo_id: str) -> dict[str, Path | bytes]:
    """The files of a metric's Space, by name, with its own name in them. Arguments as for [`push_metric_to_hub`]."""
    from hf_contrastive import metrics

    known = [info.name for info in metrics.list_metrics()]
    if name not in known:
        raise ValueError(f"There is no metric called {name!r}. Known metrics: {', '.join(known)}.")
    folder, own = Path(metrics.__file__).parent / name, repo_id.split("/")[1]
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.*") if path.is_file()}
    texts[f"{own}.py"] = texts.pop(f"{name}.py")
    texts["app.py"] = texts["app.py"].replace(f"{name}.py", f"{own}.py")
    texts["README.md"] = texts["README.md"].replace(f"your-name/{name}", repo_id)
    check_space_card(texts["README.md"], texts)
    return {file: text.encode() for file, text in texts.items()}


def check_space_card(card: str, files: Any) -> None:
    """
    Check the metadata on top of a Space's README as the Hub does.

    Args:
        card (`str`):
            Contents of the README.
        files (`Collection[str]`):
            Names of the files of the Space.

    Raises:
        ValueError: A field is missing or has a value that the Hub does not take; the message names it.
    """
    found = card.split("---\n", 2)
    metadata = yaml.safe_load(found[1]) if len(found) == 3 and not found[0] else None
    if not isinstance(metadata, dict):
        raise ValueError("The README of a Space must begin with metadata between two lines `---`.")
    allowed: dict[str, Callable[[Any], bool]] = {
        "title": lambda x: isinstance(x, str) and bool(x),
        "sdk": lambda x: x == "gradio",
        "app_file": lambda x: x in files,
        "emoji": lambda x: isinstance(x, str) and len(x) <= 2,
        "colorFrom": lambda x: x in COLORS,
        "colorTo": lambda x: x in COLORS,
        "tags": lambda x: isinstance(x, list) and "evaluate" in x and all(isinstance(tag, str) for tag in x),
    }
    for field, is_allowed in allowed.items():
        if not is_allowed(metadata.get(field)):
            raise ValueError(f"The metadata of a Space cannot have {metadata.get(field)!r} as {field!r}.")
