"""What a client may ask of a repository: what it is, what is in it, and the files themselves."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import parse_qs

from .calls import Answer, Call, Route, as_json, route
from .repos import Commit, File, HubError, front_matter, require_user


def whoami(call: Call) -> Answer:
    name = require_user(call.user)
    token = {"displayName": "test", "role": "write"}
    return as_json({"type": "user", "name": name, "fullname": name, "orgs": [], "auth": {"accessToken": token}})


def repo_info(call: Call) -> Answer:
    repo, commit = call.readable(), call.commit()
    card = front_matter(commit.files["README.md"].data.decode()) if "README.md" in commit.files else {}
    return as_json(
        {"id": repo.id, "author": repo.id.split("/")[0], "sha": commit.oid, "lastModified": commit.date}
        | {"private": repo.is_private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        | {"cardData": card, "tags": card.get("tags", [])}
        | {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
        | {"siblings": [sibling(path, file, call.request.query) for path, file in sorted(commit.files.items())]}
    )


def sibling(path: str, file: File, query: Mapping[str, str]) -> dict[str, object]:
    details = {"size": len(file.data), "blobId": file.oid} | lfs_details(file, "sha256") if "blobs" in query else {}
    return {"rfilename": path} | details


def lfs_details(file: File, name_of_hash: str) -> dict[str, object]:
    return {"lfs": {name_of_hash: file.sha256, "size": len(file.data), "pointerSize": 134}} if file.is_lfs else {}


def tree(call: Call) -> Answer:
    commit, folder = call.commit(), call.values.get("path", "")
    prefix = folder and folder + "/"
    inside = {part for path in commit.files for part in parts(path) if part.startswith(prefix)}
    if folder and not inside:
        raise HubError(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": commit.oid})
    if call.request.query.get("recursive") != "true":
        inside = {part for part in inside if part.count("/") == prefix.count("/")}
    return as_json(nodes(commit, sorted(inside)))


def parts(path: str) -> list[str]:
    """`a/b/c` is the file itself and the folders `a/b` and `a`."""
    return [path, *(str(folder) for folder in PurePosixPath(path).parents[:-1])]


def nodes(commit: Commit, paths: Iterable[str]) -> list[dict[str, object]]:
    folders = {part for path in commit.files for part in parts(path)} - set(commit.files)
    files = commit.files
    return [
        {"type": "file", "path": path, "size": len(files[path].data), "oid": files[path].oid}
        | lfs_details(files[path], "oid")
        if path in files
        else {"type": "directory", "path": path, "size": 0, "oid": commit.oid}
        for path in paths
        if path in files or path in folders
    ]


def paths_info(call: Call) -> Answer:
    return as_json(nodes(call.commit(), parse_qs(call.request.body.decode())["paths"]))


def check_right(call: Call) -> Answer:
    call.writable()
    return as_json({})


def refs(call: Call) -> Answer:
    repo = call.readable()
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in repo.branches.items()]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, oid in repo.tags.items()]
    return as_json({"branches": branches, "tags": tags, "converts": []})


def history(call: Call) -> Answer:
    return as_json(
        [
            {"id": c.oid, "title": c.title, "message": c.description, "date": c.date, "authors": [{"user": c.author}]}
            for c in call.readable().history(call.revision)
        ]
    )


def resolve(call: Call) -> Answer:
    commit, path = call.commit(), call.values["path"]
    headers = {"X-Repo-Commit": commit.oid}
    if path not in commit.files:
        raise HubError(404, f"Entry not found: {path}", "EntryNotFound", headers)
    file = commit.files[path]
    if file.is_lfs:
        # To another host name, as on the real Hub: clients follow a redirect to the same host, and so would miss the
        # headers of this answer. They also keep their token from other hosts.
        location = f"{call.store.storage}/lfs/{call.values['repo']}/{file.sha256}"
        linked = {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data)), "Location": location}
        return Answer(302, b"", headers | linked)
    return content(file.data, headers | {"ETag": f'"{file.etag}"'}, call.request.headers.get("Range"))


def download_large_file(call: Call) -> Answer:
    oid = call.values["oid"]
    if oid not in call.store.large_files:
        raise HubError(404, f"No such large file: {oid}")
    return content(call.store.large_files[oid], {"ETag": f'"{oid}"'}, call.request.headers.get("Range"))


def content(data: bytes, headers: Mapping[str, str], wanted: str | None) -> Answer:
    headers = {**headers, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if found is None:
        return Answer(200, data, headers)
    first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
    if first > last:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    return Answer(206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


READING: list[Route] = [
    route("GET /api/whoami-v2", whoami),
    route("GET /api/{kind}/{repo}", repo_info),
    route("GET /api/{kind}/{repo}/revision/{revision}", repo_info),
    route("GET /api/{kind}/{repo}/tree/{revision}", tree),
    route("GET /api/{kind}/{repo}/tree/{revision}/{path}", tree),
    route("POST /api/{kind}/{repo}/paths-info/{revision}", paths_info),
    route("GET /api/{kind}/{repo}/auth-check/write", check_right),
    route("GET /api/{kind}/{repo}/refs", refs),
    route("GET /api/{kind}/{repo}/commits/{revision}", history),
    route("HEAD /{kind/}{repo}/resolve/{revision}/{path}", resolve),
    route("GET /{kind/}{repo}/resolve/{revision}/{path}", resolve),
    route("GET /lfs/{repo}/{oid}", download_large_file),
]
