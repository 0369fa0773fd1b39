"""What the loopback Hub holds: repositories of three kinds, their commits and their large files, all in memory."""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

# Not of the standard library, but a dependency of huggingface_hub: only a real parser can judge a model card.
import yaml


LARGEST_REGULAR_FILE = 10 * 1024 * 1024
LFS_SUFFIXES = {".arrow", ".bin", ".flac", ".jpg", ".onnx", ".parquet", ".png", ".pt", ".safetensors", ".tar", ".wav"}
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES))


class HubError(Exception):
    """A refusal. Clients choose their exception by `code`, the Hub's own name for what went wrong."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        one_line = " ".join(ascii(message)[1:-1].split("\\n"))
        self.headers = {"X-Error-Message": one_line, **({"X-Error-Code": code} if code else {}), **(headers or {})}


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def belongs_in_lfs(path: str, size: int, sample: bytes) -> bool:
    return PurePosixPath(path).suffix in LFS_SUFFIXES or size > LARGEST_REGULAR_FILE or b"\0" in sample


def front_matter(card: str) -> dict[str, Any]:
    """The metadata on top of a README, empty if there is none. Raises a ValueError unless it is a mapping."""
    block = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*$", card, re.DOTALL | re.MULTILINE)
    if block is None:
        return {}
    try:
        metadata = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        raise ValueError(f"Invalid YAML: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"The metadata must be a mapping, not {type(metadata).__name__}")
    return metadata


@dataclass(frozen=True)
class File:
    data: bytes
    is_lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def oid(self) -> str:
        """Git's name for what it stores: the content, or the pointer that stands for a large file."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        return git_oid(pointer.encode() if self.is_lfs else self.data)

    @property
    def etag(self) -> str:
        """What clients compare with their own hash, to skip a file that did not change."""
        return self.sha256 if self.is_lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    files: Mapping[str, File]
    title: str
    description: str
    author: str
    date: str


@dataclass
class Repo:
    kind: str
    id: str
    is_private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> Iterator[Commit]:
        """Newest first."""
        oid: str | None = self.at(revision).oid
        while oid is not None:
            yield self.commits[oid]
            oid = self.commits[oid].parent

    def commit(
        self, branch: str, files: Mapping[str, File], title: str, description: str = "", author: str = ""
    ) -> Commit:
        parent = self.branches.get(branch)
        # The number makes the name unique: two commits of the same files are two commits.
        content = [len(self.commits), self.kind, self.id, parent, title, sorted((p, f.oid) for p, f in files.items())]
        oid = hashlib.sha1(repr(content).encode()).hexdigest()
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        self.commits[oid] = Commit(oid, parent, files, title, description, author, date)
        self.branches[branch] = oid
        return self.commits[oid]


@dataclass
class Store:
    """All repositories, and who may see and change them: a repository belongs to the user it is named after."""

    endpoint: str
    storage: str
    tokens: dict[str, str]
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    large_files: dict[str, bytes] = field(default_factory=dict)
    # Bytes of large files that each user may store.
    quota: float = float("inf")

    def user(self, authorization: str | None) -> str | None:
        if authorization is None:
            return None
        user = self.tokens.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def create(self, kind: str, repo_id: str, is_private: bool) -> Repo:
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, is_private)
        repo.commit("main", {".gitattributes": File(GIT_ATTRIBUTES.encode())}, "initial commit")
        return repo

    def readable(self, kind: str, repo_id: str, user: str | None) -> Repo:
        repo = self.repos.get((kind, repo_id))
        if repo is None or (repo.is_private and not owns(user, repo_id)):
            # Missing and hidden look alike, lest an outsider learn which private names exist.
            raise HubError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, kind: str, repo_id: str, user: str | None) -> Repo:
        repo = self.readable(kind, repo_id, user)
        require_owner(user, repo_id)
        return repo


def owns(user: str | None, repo_id: str) -> bool:
    return user == repo_id.split("/")[0]


def require_user(user: str | None) -> str:
    if user is None:
        raise HubError(401, "Invalid username or password.")
    return user


def require_owner(user: str | None, repo_id: str) -> None:
    if not owns(require_user(user), repo_id):
        raise HubError(403, f"{user} has no right to write to {repo_id}")
