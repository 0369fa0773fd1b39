"""Data files by name or pattern, and the columns of a WebDataset as those of pairs."""

import itertools
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, IterableDataset

from hf_contrastive.data.pairs import CAPTION_COLUMNS


# The loader of `datasets` for each kind of file.
LOADERS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tar": "webdataset",
}
# What WebDatasets call a caption that is a file of its own, and a file that may hold one among other things.
CAPTION_FILES = ("txt", "caption.txt", "text", "caption")
JSON = "json"


def expand(pattern: str) -> list[str]:
    """
    The patterns that one with braces stands for, as WebDataset and shells write them.

    >>> expand("{a,b}/{08..10}.tar")
    ['a/08.tar', 'a/09.tar', 'a/10.tar', 'b/08.tar', 'b/09.tar', 'b/10.tar']
    """
    parts = re.split(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}", pattern)
    choices = [[part] if place % 2 == 0 else _choices(part) for place, part in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def find_files(pattern: str) -> list[str]:
    """
    The files that a name, or a pattern with braces or wildcards, stands for, in order.

    Raises:
        FileNotFoundError: A named file is not there, or a wildcard finds none.
        ValueError: A file is empty, or they are not all of one known kind.
    """
    found: list[str] = []
    for name in expand(str(Path(pattern).expanduser())):
        files = sorted(glob(name, recursive=True)) if has_magic(name) else [name] * Path(name).is_file()
        if not files:
            raise FileNotFoundError(f"`dataset` is {pattern!r}, but there is nothing at {name!r}.")
        found += files
    return found


def loader_of(files: list[str], pattern: str) -> str:
    """Name of the loader of `datasets` for files, which must be of one kind."""
    suffixes = sorted({Path(file).suffix for file in files})
    if unknown := [suffix for suffix in suffixes if suffix not in LOADERS]:
        file = next(file for file in files if Path(file).suffix == unknown[0])
        raise ValueError(
            f"`dataset` is {'the file ' * (len(files) == 1)}{pattern!r}; files must end in {', '.join(LOADERS)}"
            f"{f', but there is {file!r}' * (len(files) > 1)}."
        )
    if empty := [file for file in files if Path(file).stat().st_size == 0]:
        raise ValueError(f"`dataset` is the file {empty[0]!r}, which is empty.")
    loaders = {LOADERS[suffix] for suffix in suffixes}
    if len(loaders) > 1:
        raise ValueError(
            f"`dataset` is {pattern!r}, files of several kinds: {', '.join(suffixes)}. Name those of one."
        )
    return loaders.pop()


def as_pairs(
    rows: Dataset | IterableDataset, *, image_column: str, caption_column: str | None, others: tuple[str, ...]
) -> Dataset | IterableDataset:
    """
    A WebDataset with the columns of pairs; other data as it is.

    The picture (`jpg`, `png`, ...) becomes `image_column`; the caption is the text file (`txt`), or what the `json` file
    has under the caption column's name. Further columns are read from the `json` file where they are not files.
    """
    if rows.features is None or "__key__" not in rows.features:
        return rows
    pictures = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    for name in pictures:
        # Or each renaming of a column would decode each picture of a stream.
        rows = rows.cast_column(name, Image(decode=False))
    if image_column not in rows.features and len(pictures) == 1:
        rows = rows.rename_column(pictures[0], image_column)
    wanted = [caption_column] if caption_column else list(CAPTION_COLUMNS)
    texts = [name for name in CAPTION_FILES if name in rows.features]
    inside = rows.features[JSON] if isinstance(rows.features.get(JSON), dict) else {}
    lifted = {name: inside[name] for name in others if name not in rows.features and name in inside}
    if not any(name in rows.features for name in wanted):
        if texts and (caption_column is None or caption_column not in inside):
            rows = rows.rename_column(texts[0], caption_column or "caption")
        else:
            lifted |= {name: inside[name] for name in wanted if name in inside}
    return _lift(rows, lifted) if lifted else rows


def with_entries(rows: Dataset | IterableDataset, wanted: Sequence[str]) -> Dataset | IterableDataset:
    """A WebDataset with those wanted columns that are entries of its `json` files; other data as it is."""
    features = rows.features or {}
    inside = features.get(JSON) if "__key__" in features else None
    lifted = {c: inside[c] for c in wanted if c not in features and c in inside} if isinstance(inside, dict) else {}
    return _lift(rows, lifted) if lifted else rows


def _lift(rows: Dataset | IterableDataset, lifted: dict[str, Any]) -> Dataset | IterableDataset:
    """Entries of the `json` files as columns."""
    features = Features({name: feature for name, feature in rows.features.items() if name != JSON} | lifted)
    return rows.map(
        _entries, fn_kwargs={"names": list(lifted)}, input_columns=[JSON], remove_columns=[JSON], features=features
    )


def _entries(entry: dict[str, Any] | None, names: list[str]) -> dict[str, Any]:
    return {name: (entry or {}).get(name) for name in names}


def _choices(part: str) -> list[str]:
    if ".." not in part:
        return part.split(",")
    first, _, last = part.partition("..")
    if not (first.isdecimal() and last.isdecimal()):
        return ["{" + part + "}"]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
