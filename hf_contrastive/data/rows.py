"""Raw values of a dataset's rows: what they are, reading them, and naming the row of one that cannot be used."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from datasets import Audio, Dataset, Image, IterableDataset, List, Value
from PIL import Image as PILImage
from PIL import ImageOps

from hf_contrastive.data.modalities import Kind, problem_of


STRINGS, BYTES = ("string", "large_string"), ("binary", "large_binary")
NOUNS = {"image": "image", "text": "caption", "audio": "sound", "embedding": "embedding"}
EXPECTED = {
    "image": "images, their bytes or their paths",
    "text": "captions, a string or a list of strings",
    "audio": "sounds, or structs with an `array` and a `sampling_rate`",
    "embedding": "embeddings, lists of floats",
}


# Bad rows that each reader names in the log.
NAMED = 10


class BadRowError(ValueError):
    """A row of a dataset that nothing can be learned from. The message names the row."""


def check_on_bad_row(choice: str) -> None:
    """Raise a ValueError unless `on_bad_row` is a choice that there is."""
    if choice not in ("raise", "skip"):
        raise ValueError(f"`on_bad_row` must be 'raise' or 'skip', but got {choice!r}.")


def kind_of(feature: Any, column: str, name: str) -> Kind:
    """What a column holds, one value or a list of several in each row."""
    inner = _inner(feature)
    if isinstance(inner, Image):
        return "image"
    if isinstance(inner, Audio) or (isinstance(inner, dict) and {"array", "sampling_rate"} <= set(inner)):
        return "audio"
    if isinstance(inner, Value) and inner.dtype in STRINGS:
        return "text"
    if inner is not feature and str(getattr(inner, "dtype", "")).startswith(("float", "bfloat")):
        return "embedding"
    raise ValueError(
        f"Cannot tell what column {column!r} of the {name} holds, its type is {feature}. Say so with `kinds`: "
        f"{', '.join(NOUNS)}."
    )


def is_list(feature: Any, kind: Kind) -> bool:
    """Whether rows of a column hold lists of values, not single ones."""
    item = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return item is not None and (kind != "embedding" or _inner(item) is not item)


def check_kind(feature: Any, kind: Kind, column: str, name: str) -> None:
    """Raise a ValueError unless a column can hold values of a kind."""
    inner = _inner(feature)
    dtype = getattr(inner, "dtype", "")
    fits = {
        "image": isinstance(inner, Image)
        or (isinstance(inner, Value) and dtype in STRINGS + BYTES)
        or (isinstance(inner, dict) and set(inner) == {"bytes", "path"}),
        "text": dtype in STRINGS,
        "audio": isinstance(inner, Audio) or (isinstance(inner, dict) and {"array", "sampling_rate"} <= set(inner)),
        "embedding": str(dtype).startswith(("float", "bfloat")),
    }
    if not fits[kind]:
        raise ValueError(f"Column {column!r} of the {name} must hold {EXPECTED[kind]}, but its type is {feature}.")


def as_encoded(dataset: Dataset | IterableDataset, column: str, kind: Kind) -> Any:
    """The dataset with bytes in place of what it would decode: a bad file must be reported with its row."""
    feature = dataset.features[column]
    undecoded = {"image": Image(decode=False), "audio": Audio(decode=False)}.get(kind)
    if undecoded is None or (kind == "audio" and not isinstance(_inner(feature), Audio)):
        return dataset
    return dataset.cast_column(column, undecoded if _inner(feature) is feature else List(undecoded))


def values_of(entry: Any, kind: Kind) -> list[Any]:
    """The values of a row's entry, one or a list of several, without absent ones and blank texts."""
    is_list = isinstance(entry, list | tuple) and not (kind == "embedding" and not _is_nested(entry))
    values = list(entry) if is_list else [entry]
    return [x for x in values if x is not None and not (kind == "text" and isinstance(x, str) and not x.strip())]


def present_values(
    entries: Mapping[str, Any], columns: Mapping[str, str], kinds: Mapping[str, Kind], row: str
) -> dict[str, list[Any]]:
    """
    The values of a row by modality, none of those that it lacks.

    Raises:
        BadRowError: It has a blank text, which is not an absent one, or fewer than two modalities where there are more.
    """
    found = {m: values_of(entries[column], kinds[m]) for m, column in columns.items()}
    blank = [m for m, values in found.items() if not values and kinds[m] == "text" and entries[columns[m]]]
    if blank or sum(map(bool, found.values())) < min(2, len(found)):
        lacking = (blank or [m for m, values in found.items() if not values])[0]
        refuse_absent(kinds[lacking], Place(row, columns[lacking]))
    return found


class Place(NamedTuple):
    """Where a value stands, for messages: `"row 5 of the train split"`, and its column."""

    row: str
    column: str

    def __str__(self) -> str:
        return f"{self.row} (column {self.column!r})"


def read(value: Any, kind: Kind, feature: Any, place: Place) -> Any:
    """
    A value as collators take it: images and sounds decoded.

    Args:
        value: What the dataset holds, encoded.
        kind (`str`):
            What it is.
        feature:
            Type of the column before it was encoded.
        place (`Place`):
            Where it stands.

    Raises:
        BadRowError: It cannot be decoded, or is empty, not finite or nothing but zeros.
    """
    if kind == "image":
        return _read_image(value, place)
    if kind == "audio" and isinstance(inner := _inner(feature), Audio):
        value = _read_audio(value, inner, place)
    numbers = value["array"] if kind == "audio" else value
    if (problem := problem_of(kind, numbers)) is not None:
        raise BadRowError(f"{_capital(place.row)} has {problem} in column {place.column!r}.")
    return value


def refuse_absent(kind: Kind, place: Place) -> NoReturn:
    """Raise a BadRowError for a row that lacks a modality."""
    raise BadRowError(f"{_capital(place.row)} has no {NOUNS[kind]} in column {place.column!r}.")


def _read_image(encoded: Any, place: Place) -> PILImage.Image:
    if isinstance(encoded, PILImage.Image):
        # Of a stream that was decoded on its way, as by a filter.
        return ImageOps.exif_transpose(encoded).convert("RGB")
    if not isinstance(encoded, dict):
        encoded = {"bytes": encoded, "path": None} if isinstance(encoded, bytes) else {"path": encoded}
    data, path = encoded.get("bytes"), encoded.get("path")
    try:
        with PILImage.open(io.BytesIO(data) if data is not None else str(path)) as image:
            # Cameras store pictures as the sensor saw them, and beside them which way is up.
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
        size = f"{len(data)} bytes" if data is not None else repr(path)
        raise BadRowError(
            f"The image in {place.row} (column {place.column!r}, {size}) cannot be decoded: {error}. Repair the row or drop "
            "it from the dataset."
        ) from error


def _read_audio(encoded: Any, feature: Audio, place: Place) -> dict[str, Any]:
    try:
        decoded = Audio(sampling_rate=feature.sampling_rate).decode_example(encoded)
        return {"array": decoded["array"], "sampling_rate": decoded["sampling_rate"]}
    except ImportError:
        # Not the row's fault.
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise BadRowError(
            f"The sound in {place} cannot be decoded: {error}. Repair the row or drop it from the dataset."
        ) from error


def _inner(feature: Any) -> Any:
    """The type of a list's items, or the type itself."""
    if isinstance(feature, list):
        return feature[0]
    if isinstance(feature, List):
        return _inner(feature.feature)
    return feature


def _is_nested(entry: Sequence[Any]) -> bool:
    return any(isinstance(value, list | tuple) for value in entry)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
