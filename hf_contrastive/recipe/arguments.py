"""Arguments of a recipe: a YAML file, then overrides on the command line."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from hf_contrastive.recipe.parser import RecipeParser


def parse_recipe(
    *dataclass_types: Any,
    default_config: str | Path | None = None,
    argv: Sequence[str] | None = None,
    description: str | None = None,
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
        description (`str`, *optional*):
            What `--help` says first.

    Raises:
        FileNotFoundError: The named file does not exist.
        ValueError: The file holds no mapping, there are keys or arguments that are none, or a dataclass refuses a value.
        SystemExit: A value is of the wrong kind, which is printed, or help was asked for.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    path = _pop_config(arguments) or default_config
    config = _read(Path(path), dataclass_types) if path is not None else {}
    if gives(arguments, "loss") and not gives(arguments, "loss_kwargs"):
        config.pop("loss_kwargs", None)
    # The file becomes a command line that the real one follows, so that both are checked and converted alike.
    parser = RecipeParser(dataclass_types, usage="%(prog)s [CONFIG.yaml] [--name value ...]", description=description)
    if {"-h", "--help"} & set(arguments):
        parser.epilog = None if path is None else f"Defaults are those of a run with {os.path.relpath(path)}."
        parser.set_defaults(**{name: _as_shown(value) for name, value in config.items()})
    *parsed, unknown = parser.parse_args_into_dataclasses(
        [*as_arguments(config), *arguments], return_remaining_strings=True
    )
    if unknown:
        raise ValueError(parser.unknown(unknown))
    return tuple(parsed)


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


def read_mapping(path: Path) -> dict[str, Any]:
    """
    What a YAML file of `name: value` lines holds.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {str(path)!r}.")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold `name: value` lines, but holds a {type(config).__name__}.")
    return config


def _read(path: Path, dataclass_types: Sequence[Any]) -> dict[str, Any]:
    config = read_mapping(path)
    known = {field.name for dataclass_type in dataclass_types for field in fields(dataclass_type)}
    if unknown := sorted(set(config) - known, key=str):
        near = [found for key in unknown for found in get_close_matches(str(key), known, 1)]
        guess = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{path} has unknown keys {unknown}.{guess} --help shows all there are.")
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


def _as_shown(value: Any) -> Any:
    return _as_argument(value) if isinstance(value, Mapping) else value


def gives(arguments: Sequence[str], name: str) -> bool:
    """Whether a command line has an argument of this name."""
    spellings = (f"--{name}", f"--{name.replace('_', '-')}")
    return any(argument.partition("=")[0] in spellings for argument in arguments)
