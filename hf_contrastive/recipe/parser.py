"""How a recipe reads its command line: help in groups, and what is wrong in one line."""

import os
import sys
import time
from argparse import SUPPRESS, Action, ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from inspect import get_annotations
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from transformers import HfArgumentParser
from transformers.utils import logging


logger = logging.get_logger(__name__)

# Exit code of what cannot be used as it was given, that of `argparse` and of `hf-contrastive`.
WRONG = 2
# Seconds in which a launcher ends the other processes once the first has failed.
PATIENCE = 10.0


class RecipeParser(HfArgumentParser):
    """Arguments of several dataclasses, shown by the class that defines them."""

    def __init__(self, dataclass_types: Any, **kwargs: Any) -> None:
        # Of an abbreviation nobody could say whether it is given.
        super().__init__(dataclass_types, formatter_class=_Formatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        stop(f"{message}. --help shows all arguments.")

    def unknown(self, remaining: list[str]) -> str:
        """What to say of arguments that there are not."""
        if remaining[0].endswith((".yaml", ".yml")):
            return f"A file of arguments comes first, or after --config, but got {remaining[0]} among the others."
        known = [option for action in self._actions for option in action.option_strings]
        near = [found for word in remaining for found in get_close_matches(word.partition("=")[0], known, 1)]
        guess = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"There are no arguments {' '.join(remaining)}.{guess} --help shows all there are."

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        hints = get_type_hints(dtype)
        own = {kind: get_annotations(kind) for kind in dtype.__mro__}
        by_kind: dict[type, list[Any]] = {kind: [] for kind in own}
        for field in fields(dtype):
            if field.init:
                field.type = hints[field.name]
                by_kind[next(kind for kind, names in own.items() if field.name in names)].append(field)
        for kind, found in by_kind.items():
            if found:
                group = self.add_argument_group(f"{kind.__name__}: {_first_sentence(kind)}")
                for field in found:
                    self._parse_dataclass_field(group, field)
        for action in self._actions:
            if action.const is False and action.nargs == 0:
                action.help = f"The opposite of --{action.dest}."


class _Formatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """One spelling of each argument, and no default that is none or that the help names."""

    def _get_help_string(self, action: Action) -> str | None:
        help = action.help or ""
        if action.nargs == 0 or action.default in (None, SUPPRESS, []) or "default" in help.lower():
            return help
        return super()._get_help_string(action)

    def _format_action_invocation(self, action: Action) -> str:
        if len(action.option_strings) < 2 or "-h" in action.option_strings:
            return super()._format_action_invocation(action)
        arguments = (
            self._format_args(action, self._get_default_metavar_for_optional(action)) if action.nargs != 0 else ""
        )
        return f"{action.option_strings[0]} {arguments}".rstrip()


def _first_sentence(kind: type) -> str:
    words = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    return words.replace("[`", "").replace("`]", "").replace("~", "").partition(". ")[0].rstrip(".")


def stop(message: str) -> NoReturn:
    """End the process with exit code 2 and a line on what is wrong, which of several processes the first one says."""
    if rank := int(os.environ.get("RANK", "0")):
        # Where the first has failed too, the launcher ends this one meanwhile. Otherwise only this one can say why.
        time.sleep(PATIENCE)
        message = f"process {rank}: {message}"
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr, flush=True)
    raise SystemExit(WRONG)


@contextmanager
def told_in_one_line(*others: type[Exception]) -> Iterator[None]:
    """
    Around what a recipe does before it trains: reading arguments and data, making models and trainers.

    What the user gave and cannot be used ends the process with one line and exit code 2. That is a ValueError, an OSError
    or an ImportError, and `others`. With TRANSFORMERS_VERBOSITY=debug, where it was found is told too.
    """
    told: tuple[type[Exception], ...] = (ValueError, OSError, ImportError, *others)
    try:
        yield
    except told as error:
        logger.debug("Where it was found", exc_info=True)
        stop(str(error))
