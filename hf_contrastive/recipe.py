"""Arguments of a recipe: a YAML file, then overrides on the command line; and the command lines that go on from it."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


def parse_recipe(
    *dataclass_types: Any, default_config: str | Path | None = None, argv: Sequence[str] | None = None
) -> tuple[Any, ...]:
    """
    Read `[config.yaml] [--name value ...]`, by default from the command line, into one instance of each dataclass.

    Every field may stand in the file and on the command line, which wins. A `loss` given on the command line leaves the
    file's `loss_kwargs`, which belong to another loss, behind.

    Args:
        dataclass_types:
            Dataclasses whose fields are the arguments.
        default_config (`str` or `Path`, *optional*):
            File to read where the command line names none.
        argv (`Sequence[str]`, *optional*):
            Command line without the script's name.

    Raises:
        FileNotFoundError: The named file does not exist.
        ValueError: The file holds no mapping, or keys that are no arguments.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    path = _pop_config(arguments) or default_config
    config = _read(Path(path), dataclass_types) if path is not None else {}
    if gives(arguments, "loss") and not gives(arguments, "loss_kwargs"):
        config.pop("loss_kwargs", None)
    # The file becomes a command line that the real one follows, so that both are checked and converted alike.
    parser = HfArgumentParser(dataclass_types)
    parsed: tuple[Any, ...] = parser.parse_args_into_dataclasses([*as_arguments(config), *arguments])
    return parsed


def read_option(given: Any, name: str, example: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    An option that is a mapping: JSON from the command line or a YAML file, or one already; None where it is not given.

    Raises:
        ValueError: It is something else; the message shows the example.
    """
    if isinstance(given, str):
        with suppress(json.JSONDecodeError):
            given = json.loads(given)
    if given is not None and (not isinstance(given, Mapping) or not given):
        raise ValueError(f"`{name}` must be a JSON object such as '{json.dumps(example)}', but got {given!r}.")
    return None if given is None else dict(given)


def _pop_config(arguments: list[str]) -> str | None:
    if arguments and arguments[0].endswith((".yaml", ".yml")) and not arguments[0].startswith("-"):
        return arguments.pop(0)
    for position, argument in enumerate(arguments):
        if argument == "--config":
            if position + 1 == len(arguments):
                raise ValueError("`--config` needs a file: the path of a YAML file comes after it.")
            del arguments[position]
            return arguments.pop(position)
        if argument.startswith("--config="):
            return arguments.pop(position).removeprefix("--config=")
    return None


def _read(path: Path, dataclass_types: Sequence[Any]) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {str(path)!r}.")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold `name: value` lines, but holds a {type(config).__name__}.")
    known = {field.name for dataclass_type in dataclass_types for field in fields(dataclass_type)}
    if unknown := sorted(set(config) - known):
        raise ValueError(f"{path} has unknown keys {unknown}. Run the recipe with --help for those there are.")
    return config


def as_arguments(config: Mapping[str, Any]) -> list[str]:
    """The command line that says what a mapping from a YAML file says; options that are mappings become JSON."""
    arguments = []
    for name, value in config.items():
        if isinstance(value, list):
            arguments += [f"--{name}", *map(_as_argument, value)] if value else []
        elif value is not None:
            arguments.append(f"--{name}={_as_argument(value)}")
    return arguments


def _as_argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def gives(arguments: Sequence[str], name: str) -> bool:
    """Whether a command line has an argument of this name."""
    return any(argument == f"--{name}" or argument.startswith(f"--{name}=") for argument in arguments)


def command_line(*words: str, **options: str | None) -> str:
    """A command line of `hf-contrastive` that can be pasted, with those options that are given."""
    # In an environment that is not activated, as that of `make train`, the program is beside its Python.
    beside = Path(sys.executable).parent / "hf-contrastive"
    found = shutil.which("hf-contrastive") is None and beside.exists()
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    return shlex.join([os.path.relpath(beside) if found else "hf-contrastive", *words, *given])
