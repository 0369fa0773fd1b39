"""Embeddings from files: arrays of shape (rows, width), never a pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings


SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet")
ID_SUFFIXES = (".npy", ".txt", ".parquet")
# Columns and entries of files that tell what a row shows.
ID_NAMES = ("id", "ids")
ALLOWED = (
    "Embeddings are matrices of shape (rows, width), one per modality: a .npy file each, .npz or .safetensors files with "
    "named arrays, or .parquet files with a column of lists per modality or one numeric column per coordinate."
)


def is_embedding_file(name: str | Path) -> bool:
    """Whether a name ends as a file of embeddings does."""
    return Path(name).suffix.lower() in SUFFIXES


def read_embeddings(
    paths: Sequence[str | Path], *, ids: str | Path | None = None
) -> tuple[dict[str, Float[Tensor, "n d"]], Int[Tensor, "n"] | None]:
    """
    Embeddings by modality from one or several files, row i of each the same example, and what each row shows.

    A modality is called as its array or column, or as its file where that holds one matrix.

    Args:
        paths (`list[str]`):
            Files ending in `.npy`, `.npz`, `.safetensors` or `.parquet`.
        ids (`str`, *optional*):
            A `.npy` or `.parquet` file of one column, or a `.txt` file with one line per row: rows of one id show the same.
            By default the column or array `id` of a file, where there is one.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is of another kind, or holds something else than finite matrices; there are fewer than two, or
            their rows or widths differ.
    """
    found: dict[str, tuple[Path, np.ndarray]] = {}
    inside: list[tuple[Path, np.ndarray]] = []
    for path in (Path(p).expanduser() for p in paths):
        for name, array in _arrays(path).items():
            if name in ID_NAMES:
                inside.append((path, array))
                continue
            if name in found:
                if name != path.stem:
                    raise ValueError(f"{str(path)!r} and {str(found[name][0])!r} both hold {name!r}.")
                name = f"{path.parent.name}_{name}"
            found[name] = (path, array)
    embeds = {name: _matrix(name, path, array) for name, (path, array) in found.items()}
    told = ", ".join(f"{name!r} of shape {list(x.shape)}" for name, x in embeds.items()) or "none"
    if len(embeds) < 2:
        raise ValueError(f"A diagnosis needs two modalities or more, but {_names(paths)} hold {told}. {ALLOWED}")
    if len({x.shape for x in embeds.values()}) > 1:
        raise ValueError(
            f"Row i of every modality must be the same example, with one width, but {_names(paths)} hold {told}. Where an "
            "image has five captions, repeat its row five times and give the rows one id."
        )
    rows = len(next(iter(embeds.values())))
    if ids is not None:
        inside = [(Path(ids), _id_values(Path(ids).expanduser()))]
    for path, values in inside:
        if values.shape != (rows,):
            raise ValueError(
                f"{str(path)!r} must hold one id for each of {rows} rows, but holds {list(values.shape)}."
            )
    return embeds, as_ids(inside[0][1]) if inside else None


def as_ids(values: Any) -> Int[Tensor, "n"]:
    """Integers that are equal where values (integers or strings) are."""
    return torch.from_numpy(np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1).astype(np.int64))


def as_matrices(given: Mapping[str, Any]) -> dict[str, Float[Tensor, "n d"]]:
    """Arrays, tensors or lists by modality, as tensors after the checks that files undergo."""
    embeds = {name: as_embeddings(_tensor(x), name, min_rows=2, normalize=False) for name, x in given.items()}
    for name, x in embeds.items():
        as_embeddings(x, name)
    told = {name: list(x.shape) for name, x in embeds.items()}
    if len(embeds) < 2 or len({x.shape for x in embeds.values()}) > 1:
        raise ValueError(
            f"A diagnosis needs two or more matrices of one shape, row i the same example, but got {told}."
        )
    return embeds


def _tensor(x: Any) -> Tensor:
    x = x.detach().cpu() if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    return x if x.is_floating_point() else x.to(torch.float32)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{str(path)!r} is no file of embeddings: it must end in {', '.join(SUFFIXES)}. Pickles (.pt, .pkl) are never read."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        if suffix == ".npy":
            return {path.stem: np.load(path, allow_pickle=False)}
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if suffix == ".safetensors":
            tensors = load_file(path)
            return {n: (x.float() if x.dtype == torch.bfloat16 else x).numpy() for n, x in tensors.items()}
        return _parquet(path)
    except (ValueError, OSError, EOFError, BadZipFile, SafetensorError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read: {_reason(error)} {ALLOWED} Pickled objects are never read."
        ) from error


def _parquet(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    # What pandas writes as the index of a table is no coordinate.
    index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    kinds = {field.name: field.type for field in table.schema if field.name not in index}
    nested = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = [name for name, kind in kinds.items() if any(is_kind(kind) for is_kind in nested)]
    numeric = [
        n for n, k in kinds.items() if (pa.types.is_floating(k) or pa.types.is_integer(k)) and n not in ID_NAMES
    ]
    found = {name: table.column(name).to_numpy() for name in kinds if name in ID_NAMES}
    if lists:
        return found | {name: _stacked(table.column(name), name) for name in lists}
    if not numeric:
        raise ValueError(f"It has the columns {list(kinds)}, none of lists or numbers.")
    return found | {path.stem: np.stack([table.column(name).to_numpy() for name in numeric], axis=1)}


def _stacked(column: pa.ChunkedArray, name: str) -> np.ndarray:
    widths = [-1 if width is None else width for width in pc.list_value_length(column).to_pylist()]
    for row, width in enumerate(widths):
        if width < 0 or width != widths[0]:
            what = "is empty" if width < 0 else f"has {width} numbers"
            raise ValueError(f"Row {row} of column {name!r} {what}, but the first has {max(widths[0], 0)}.")
    array: np.ndarray = pc.list_flatten(column).to_numpy().reshape(len(widths), *widths[:1])
    return array


def _matrix(name: str, path: Path, array: np.ndarray) -> Tensor:
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{name!r} in {str(path)!r} is an array of {array.dtype} of shape {list(array.shape)}. {ALLOWED}"
        )
    # The functional core refuses what is not finite or zero, and here still knows the file.
    wide = array.astype(array.dtype if array.dtype in (np.float16, np.float32, np.float64) else np.float32)
    x = torch.from_numpy(np.ascontiguousarray(wide))
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    as_embeddings(x, f"{name} of {path}", min_rows=2)
    return x


def _id_values(path: Path) -> np.ndarray:
    if path.suffix.lower() not in ID_SUFFIXES:
        raise ValueError(f"`ids` must be a file that ends in {', '.join(ID_SUFFIXES)}, but is {str(path)!r}.")
    if not path.is_file():
        raise FileNotFoundError(f"`ids` is {str(path)!r}, where there is no file.")
    if path.suffix.lower() == ".txt":
        return np.asarray(path.read_text(encoding="utf-8").splitlines())
    try:
        values = np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else _only_column(path)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"`ids` is {str(path)!r}, which cannot be read: {_reason(error)}") from error
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise ValueError(
            f"`ids` is {str(path)!r}, which must hold integers or strings in one dimension, but holds {values.dtype} of "
            f"shape {list(values.shape)}."
        )
    return values


def _only_column(path: Path) -> np.ndarray:
    table = pq.read_table(path)
    if table.num_columns != 1:
        raise ValueError(f"it must have one column, but has {table.column_names}.")
    return np.asarray(table.column(0).to_pylist())


def _reason(error: Exception) -> str:
    """What a library said, without its advice to read pickles after all."""
    return str(error).partition(" If you trust the file")[0]


def _names(paths: Sequence[str | Path]) -> str:
    return " and ".join(repr(str(path)) for path in paths)
