"""A repository to push to: opened with retries, and committed to once, whatever becomes of the answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from hf_contrastive.hub.failures import Patience, retrying


if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, HfApi


# Seconds without a sign of the Hub after which a request has failed. Its client would wait for ever.
LONGEST_SILENCE = 120.0

Files = Mapping[str, Path | bytes]


@dataclass(frozen=True, kw_only=True)
class Repository:
    """
    A repository on the Hub.

    Args:
        name (`str`):
            `owner/name`, or a bare name, which is the user's own.
        kind (`str`, *optional*, defaults to `"model"`):
            `"model"`, `"dataset"` or `"space"`.
        token (`str`, *optional*):
            Token with the right to write. By default the one that is logged in.
        private (`bool`, *optional*):
            Whether a new one is private. By default as the owner's settings say.
        revision (`str`, *optional*):
            Branch, which is made if there is none. By default `main`.
    """

    name: str
    kind: str = "model"
    # Not in tracebacks and logs that print values.
    token: str | None = field(default=None, repr=False)
    private: bool | None = None
    revision: str | None = None

    @property
    def api(self) -> "HfApi":
        """A client with the repository's token."""
        from huggingface_hub import HfApi

        return HfApi(token=self.token)

    @property
    def secret(self) -> str | None:
        """The token that clients send."""
        from huggingface_hub import get_token

        return self.token or get_token()

    def open(self, *, space_sdk: str | None = None, patience: Patience | None = None) -> str:
        """Make the repository and its branch, unless they are there, and see that they can be written to.

        Args:
            space_sdk (`str`, *optional*):
                What a new Space runs on, such as `"gradio"`.
            patience ([`Patience`], *optional*):
                Once it is over, nothing is tried again.

        Returns:
            `str`: The full name.
        """
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but not in `__all__`
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        api = self.api

        def attempt(_: bool) -> str:
            full = api.create_repo(
                self.name, repo_type=self.kind, private=self.private, exist_ok=True, space_sdk=space_sdk
            ).repo_id
            # `exist_ok` makes no error of a refusal if the repository is that of somebody else.
            address = f"{api.endpoint}/api/{self.kind}s/{full}/auth-check/write"
            hf_raise_for_status(get_session().get(address, headers=build_hf_headers(token=self.token)))
            if self.revision is not None:
                api.create_branch(full, branch=self.revision, repo_type=self.kind, exist_ok=True)
            return full

        with bounded_silence:
            return str(retrying(attempt, patience, token=self.secret))

    def commit(
        self,
        full_name: str,
        files: Files | Callable[[str], Files],
        message: str,
        *,
        patience: Patience | None = None,
    ) -> "CommitInfo":
        """
        Commit files, once, onto the head that is there when it begins.

        Of an attempt whose answer is lost, the commit may be there; and while files are sent, another may come. Either
        is found by asking for the head anew.

        Args:
            full_name (`str`):
                What `open` returned.
            files (`Mapping[str, Path | bytes]` or `Callable[[str], Mapping[str, Path | bytes]]`):
                Files, or their contents, by name in the repository; or who says, for each attempt, what they are on top
                of the commit that it is given.
            message (`str`):
                Title of the commit.
            patience ([`Patience`], *optional*):
                Once it is over, nothing is tried again.

        Returns:
            [`~huggingface_hub.CommitInfo`]: The commit, or the one at the head if that holds the same files already.
        """
        from huggingface_hub import CommitOperationAdd

        api = self.api

        def attempt(_: bool) -> "CommitInfo":
            # Files that the head has are no operations, and no operations are no commit. One that lands between this
            # question and the commit makes that fail, on its parent, and the question is asked anew.
            head = str(api.repo_info(full_name, repo_type=self.kind, revision=self.revision).sha)
            contents = files(head) if callable(files) else files
            return api.create_commit(
                full_name,
                [CommitOperationAdd(name, str(x) if isinstance(x, Path) else x) for name, x in contents.items()],
                commit_message=message,
                repo_type=self.kind,
                revision=self.revision,
                parent_commit=head,
            )

        with bounded_silence:
            return retrying(attempt, patience, token=self.secret)


class _BoundedSilence:
    """Requests of this process to a Hub that does not answer end with an error, while anybody is inside of it."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._kept: Any = None

    def __enter__(self) -> None:
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # public, but not in `__all__`

        with self._lock:
            session = get_session()
            if not self._inside:
                self._kept = session.timeout
            self._inside += 1
            session.timeout = LONGEST_SILENCE

    def __exit__(self, *_: object) -> None:
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # public, but not in `__all__`

        with self._lock:
            self._inside -= 1
            if not self._inside:
                get_session().timeout = self._kept


bounded_silence = _BoundedSilence()
