"""What the owner of a repository may do to it: make and remove it, name its commits, and add to them."""

import base64
import hashlib
import json
from typing import Any

from .calls import Answer, Call, Route, as_json, route
from .repos import (
    LARGEST_REGULAR_FILE,
    File,
    HubError,
    Repo,
    Store,
    belongs_in_lfs,
    front_matter,
    require_owner,
    require_user,
)


def create_repo(call: Call) -> Answer:
    kind, repo_id = named_in_body(call)
    require_owner(call.user, repo_id)
    url = {"url": url_of(call.store, kind, repo_id)}
    if (kind, repo_id) in call.store.repos:
        return as_json(url | {"error": f"You already created this {kind} repo"}, 409)
    call.store.create(kind, repo_id, is_private=call.json().get("visibility") == "private")
    return as_json(url)


def delete_repo(call: Call) -> Answer:
    kind, repo_id = named_in_body(call)
    repo = call.store.writable(kind, repo_id, call.user)
    del call.store.repos[repo.kind, repo.id]
    return as_json({})


def named_in_body(call: Call) -> tuple[str, str]:
    body, user = call.json(), require_user(call.user)
    return body.get("type") or "model", f"{body.get('organization') or user}/{body['name']}"


def url_of(store: Store, kind: str, repo_id: str) -> str:
    return f"{store.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"


def change_settings(call: Call) -> Answer:
    repo, wanted = call.writable(), call.json().get("visibility")
    if wanted is not None:
        repo.is_private = wanted == "private"
    return as_json({})


def create_branch(call: Call) -> Answer:
    repo = call.writable()
    return name_commit(repo.branches, call.revision, repo.at(call.json().get("startingPoint", "main")).oid)


def create_tag(call: Call) -> Answer:
    repo = call.writable()
    return name_commit(repo.tags, call.json()["tag"], repo.at(call.revision).oid)


def name_commit(names: dict[str, str], name: str, oid: str) -> Answer:
    if name in names:
        raise HubError(409, f"Reference already exists: {name}")
    names[name] = oid
    return as_json({})


def delete_branch(call: Call) -> Answer:
    return forget_name(call.writable().branches, call.revision)


def delete_tag(call: Call) -> Answer:
    return forget_name(call.writable().tags, call.revision)


def forget_name(names: dict[str, str], name: str) -> Answer:
    if names.pop(name, None) is None:
        raise HubError(404, f"No such reference: {name}", "RevisionNotFound")
    return as_json({})


def validate_yaml(call: Call) -> Answer:
    try:
        front_matter(call.json()["content"])
    except ValueError as error:
        return as_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return as_json({"errors": [], "warnings": []})


def preupload(call: Call) -> Answer:
    present = call.writable().at(call.revision).files
    return as_json({"files": [upload_plan(file, present.get(file["path"])) for file in call.json()["files"]]})


def upload_plan(file: dict[str, Any], present: File | None) -> dict[str, object]:
    is_lfs = belongs_in_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
    plan = {"path": file["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
    return plan | {"oid": present.etag if present else None}


def plan_large_files(call: Call) -> Answer:
    call.writable()
    return as_json(
        {"transfer": "basic", "objects": [large_file_plan(call, wanted) for wanted in call.json()["objects"]]}
    )


def large_file_plan(call: Call, wanted: dict[str, Any]) -> dict[str, object]:
    plan = {"oid": wanted["oid"], "size": wanted["size"]}
    if wanted["oid"] in call.store.large_files:
        return plan
    if sum(map(len, call.store.large_files.values())) + wanted["size"] > call.store.quota:
        return plan | {"error": {"code": 403, "message": "Private repository storage limit reached"}}
    # These paths hold the name of the repository for the sake of tests that make one transfer fail.
    upload = {"href": f"{call.store.storage}/lfs/{call.values['repo']}/{wanted['oid']}"}
    verify = {"href": f"{call.store.endpoint}/lfs/{call.values['repo']}/verify"}
    return plan | {"actions": {"upload": upload, "verify": verify}}


def upload_large_file(call: Call) -> Answer:
    data, oid = call.request.body, call.values["oid"]
    if hashlib.sha256(data).hexdigest() != oid:
        raise HubError(400, "The content is not what its hash says")
    call.store.large_files[oid] = data
    return Answer()


def verify_large_file(call: Call) -> Answer:
    wanted = call.json()
    if len(call.store.large_files.get(wanted["oid"], b"")) != wanted["size"]:
        raise HubError(404, "The file was not uploaded, or not all of it")
    return as_json({})


def commit(call: Call) -> Answer:
    repo, branch = call.writable(), call.revision
    if "create_pr" in call.request.query:
        raise HubError(501, "The loopback Hub has no pull requests")
    if branch not in repo.branches:
        raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    header, *changes = (json.loads(line) for line in call.request.body.splitlines())
    require_parent(repo, branch, header["value"].get("parentCommit"))
    files = dict(repo.at(branch).files)
    for change in changes:
        CHANGES[change["key"]](call.store, files, change["value"])
    title, description = header["value"]["summary"], header["value"].get("description", "")
    oid = repo.commit(branch, files, title, description, require_user(call.user)).oid
    return as_json({"commitOid": oid, "commitUrl": f"{url_of(call.store, repo.kind, repo.id)}/commit/{oid}"})


def require_parent(repo: Repo, branch: str, parent: str | None) -> None:
    if parent and not repo.branches[branch].startswith(parent):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")


def add_file(store: Store, files: dict[str, File], change: dict[str, Any]) -> None:
    data = base64.b64decode(change["content"])
    if len(data) > LARGEST_REGULAR_FILE:
        raise HubError(400, f"{change['path']} is too large for a file outside of LFS")
    if change["path"] == "README.md":
        require_valid_card(data.decode())
    files[change["path"]] = File(data)


def require_valid_card(card: str) -> None:
    try:
        front_matter(card)
    except ValueError as error:
        raise HubError(400, f"README.md: {error}") from error


def add_large_file(store: Store, files: dict[str, File], change: dict[str, Any]) -> None:
    if change["oid"] not in store.large_files:
        raise HubError(400, f"{change['path']} points to a large file that was not uploaded")
    files[change["path"]] = File(store.large_files[change["oid"]], is_lfs=True)


def delete_file(store: Store, files: dict[str, File], change: dict[str, Any]) -> None:
    if files.pop(change["path"], None) is None:
        raise HubError(404, f"No such file: {change['path']}", "EntryNotFound")


def delete_folder(store: Store, files: dict[str, File], change: dict[str, Any]) -> None:
    for path in [path for path in files if path.startswith(change["path"].rstrip("/") + "/")]:
        del files[path]


CHANGES = {"file": add_file, "lfsFile": add_large_file, "deletedFile": delete_file, "deletedFolder": delete_folder}

WRITING: list[Route] = [
    route("POST /api/repos/create", create_repo),
    route("DELETE /api/repos/delete", delete_repo),
    route("PUT /api/{kind}/{repo}/settings", change_settings),
    route("POST /api/{kind}/{repo}/branch/{revision}", create_branch),
    route("DELETE /api/{kind}/{repo}/branch/{revision}", delete_branch),
    route("POST /api/{kind}/{repo}/tag/{revision}", create_tag),
    route("DELETE /api/{kind}/{repo}/tag/{revision}", delete_tag),
    route("POST /api/validate-yaml", validate_yaml),
    route("POST /api/{kind}/{repo}/preupload/{revision}", preupload),
    route("POST /{kind/}{repo}.git/info/lfs/objects/batch", plan_large_files),
    route("PUT /lfs/{repo}/{oid}", upload_large_file),
    route("POST /lfs/{repo}/verify", verify_large_file),
    route("POST /api/{kind}/{repo}/commit/{revision}", commit),
]
