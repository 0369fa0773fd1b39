"""What others have put into a repository, before anything reads it: no name leads elsewhere, and nothing is run."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any


SMALL_FILES = ["*.json"]
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
MOST_LINKS = 40
# Fields of an adapter's configuration that name tokenizers, modules or further adapters, to be loaded or imported.
LEADING_ELSEWHERE = (
    "adapters",
    "megatron_config",
    "prompt_tuning_init_state_dict_path",
    "shadow_model",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
)
# Also of a variant: `model.safetensors.index.fp16.json`.
INDEX = re.compile(r"\.index(\.[\w-]+)?\.json$")


class UntrustedError(ValueError):
    """A repository or folder asks for what is never done: files from elsewhere, or code of its own."""


def check_name(name: Any, where: str) -> str:
    """
    A relative name that stays below the folder that it is joined to, on any system.

    Args:
        name:
            What a file or a server says.
        where (`str`):
            Who says it, for the message.

    Raises:
        UntrustedError: It is no such name.
    """
    if isinstance(name, str) and name and "\0" not in name and not PureWindowsPath(name).drive:
        # A backslash parts names on some systems, and no file of a repository needs one.
        path = PurePosixPath(name.replace("\\", "/"))
        if not path.is_absolute() and ".." not in path.parts and path.parts:
            return name
    raise UntrustedError(f"{where} names the file {name!r}, which would lead out of its folder. It is not read.")


def inside(folder: str | Path, name: Any, where: str) -> Path:
    """The path of a name in a folder; links out of it are refused as names are. Arguments as for [`check_name`]."""
    path = Path(folder) / check_name(name, where)
    if (target := outside(folder, path)) is not None:
        raise UntrustedError(f"{where} names the file {name!r}, a link to {str(target)!r}. It is not read.")
    return path


def outside(folder: str | Path, path: Path) -> Path | None:
    """Where a path in a folder leads by a link out of it, or None. Links of the Hub's cache into its own files do not."""
    folder = Path(folder).resolve()
    blobs = [parent.parent / "blobs" for parent in folder.parents if parent.name == "snapshots"]
    for _ in range(MOST_LINKS):
        # All but the last link, as the system goes: what `..` means depends on the links before it.
        path = path.resolve() if path.name == ".." else path.parent.resolve() / path.name
        if any(path.is_relative_to(root) for root in blobs):
            # No further: the cache may share its files with others.
            return None
        if not path.is_relative_to(folder):
            return path
        if not path.is_symlink():
            return None
        path = path.parent / os.readlink(path)
    return path


def check_model(
    name: str | Path,
    *,
    revision: str | None = None,
    subfolder: str = "",
    **where: Any,
) -> str | None:
    """
    Check a model's repository or folder before it is loaded.

    Args:
        name (`str` or `Path`):
            Hub id or folder.
        revision (`str`, *optional*):
            Branch, tag or commit.
        subfolder (`str`, *optional*):
            Folder of the model in it.
        where:
            `token`, `cache_dir`, `local_files_only`, `force_download`; others are left to the loader.

    Returns:
        `str`: The commit that was checked, which is then to be loaded, or None for a folder.

    Raises:
        UntrustedError: A file's name leads elsewhere, its model needs code of its own, or its weights are pickles.
    """
    folder, names, commit = _look_into(name, revision, subfolder, where)
    config = _read(folder / "config.json")
    if "adapter_config.json" in names:
        base = _read(folder / "adapter_config.json").get("base_model_name_or_path")
        raise UntrustedError(
            f"{str(name)!r} holds an adapter of {base!r}, which is loaded in two steps, with its temperature: "
            "`load_adapter(model, name)` onto the model that you trust it to be of."
        )
    _refuse_code(config, name)
    if (weights := config.get("transformers_weights")) is not None:
        check_name(weights, f"config.json of {str(name)!r}")
    for index in (file for file in names if INDEX.search(file)):
        for shard in set(_read(folder / index).get("weight_map", {}).values()):
            check_name(shard, f"{index} of {str(name)!r}")
            if ".safetensors." in index and not shard.endswith(".safetensors"):
                raise UntrustedError(f"{index} of {str(name)!r} names {shard!r}, which is no safetensors file.")
            if commit is None:
                inside(folder, shard, f"{index} of {str(name)!r}")
    _refuse_pickles(names, name, "model")
    return commit


def check_adapter(name: str | Path, *, revision: str | None = None, subfolder: str = "", **where: Any) -> str | None:
    """Check an adapter's repository or folder before it is loaded. Arguments and errors as for [`check_model`]."""
    folder, names, commit = _look_into(name, revision, subfolder, where)
    config = _read(folder / "adapter_config.json")
    if found := [field for field in LEADING_ELSEWHERE if config.get(field)]:
        raise UntrustedError(
            f"The adapter {str(name)!r} has {found[0]!r} in its configuration, which would load or import what it names. "
            "Only adapters that are weights alone are loaded."
        )
    _refuse_pickles(names, name, "adapter_model")
    return commit


def checked_revision(commit: str | None) -> dict[str, str]:
    """Options that load what was checked, and of a branch not what came after. Takes what a check returned."""
    return {} if commit is None else {"revision": commit}


def _look_into(
    name: str | Path, revision: str | None, subfolder: str, where: Mapping[str, Any]
) -> tuple[Path, list[str], str | None]:
    """The folder with the small files, the names of all files in it, and the commit."""
    if subfolder:
        check_name(subfolder, "`subfolder`")
    if Path(name).is_dir():
        folder, commit, names = Path(name), None, [path.name for path in (Path(name) / subfolder).iterdir()]
    else:
        folder, commit, names = _download_small_files(str(name), revision, where)
        names = [
            file.removeprefix(f"{subfolder}/") for file in names if file.startswith(f"{subfolder}/" * bool(subfolder))
        ]
    return folder / subfolder, names, commit


def _download_small_files(name: str, revision: str | None, where: Mapping[str, Any]) -> tuple[Path, str, list[str]]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    from hf_contrastive.hub.failures import is_passing, without_secrets

    if "://" in name:
        raise UntrustedError(
            f"A model is named by its Hub id or a folder, but got the address {without_secrets(name)!r}."
        )
    if revision is not None:
        check_name(revision, "`revision`")
    options = {key: where[key] for key in ("token", "cache_dir", "local_files_only", "force_download") if key in where}
    names: list[str] | None = None
    if not options.get("local_files_only"):
        try:
            info = HfApi(token=options.get("token")).model_info(name, revision=revision)
            if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
                raise UntrustedError(f"The Hub names {info.sha!r} as the commit of {name!r}, which is none.")
            names, revision = (
                [check_name(x.rfilename, f"The Hub, of {name!r},") for x in info.siblings or ()],
                info.sha,
            )
        except Exception as error:
            # What is in the cache will do, as for every client of the Hub.
            if not isinstance(error, OfflineModeIsEnabled) and not is_passing(error):
                raise
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES, **options))
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return folder, folder.name, names


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise UntrustedError(f"{file.name} is no mapping, but a {type(content).__name__}.")
    return content


def _refuse_code(config: Mapping[str, Any], name: str | Path) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    # Of a kind that is known, the known code is used and the repository's is not looked at.
    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING:
        raise UntrustedError(
            f"The model {str(name)!r} is of the kind {config.get('model_type')!r}, whose code is in its repository. Code from "
            "a repository is never run: install the package that it is from, or use another model."
        )


def _refuse_pickles(names: Iterable[str], name: str | Path, stem: str) -> None:
    here = [file for file in names if "/" not in file]
    pickles = sorted(file for file in here if file.endswith(PICKLES) and file != "training_args.bin")
    if pickles and not any(file.startswith(stem) and ".safetensors" in file for file in here):
        raise UntrustedError(
            f"{str(name)!r} holds its weights only as {', '.join(pickles)}, which are pickles: reading them can run code. "
            "Convert them to safetensors, for example with https://huggingface.co/spaces/safetensors/convert."
        )
