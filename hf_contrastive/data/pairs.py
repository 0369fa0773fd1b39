"""Images with captions as a dataset that decodes what it is asked for and names the rows that it cannot read."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, Image, Value
from PIL import Image as PILImage
from PIL import ImageOps
from torch.utils.data import Dataset as TorchDataset


CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences")


class PairDataset(TorchDataset[dict[str, Any]]):
    """
    Rows `{"image": PIL image, "text": str}` of a [`~datasets.Dataset`], decoded when they are read.

    Args:
        dataset ([`~datasets.Dataset`]):
            Data with one row per image.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of images, encoded or as file paths.
        caption_column (`str`, *optional*):
            Column with a caption or a list of captions. By default the first of `caption`, `captions`, `text`,
            `sentence` and `sentences` that exists.
        draw (`bool`, *optional*, defaults to `False`):
            Whether to draw one caption of a list at each reading, which is once per epoch. If not, the first is read.
        id_column (`str`, *optional*):
            Column that tells what a row shows, integers or strings; rows then have an `"id"`. Rows of one id are no
            negatives of each other, see [`ContrastiveCollator`].
        name (`str`, *optional*, defaults to `"dataset"`):
            What to call the data in messages.

    Raises:
        ValueError: The dataset is empty, or a column is missing or of the wrong kind. When a row is read: its image
            cannot be decoded, or it has no caption.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        image_column: str = "image",
        caption_column: str | None = None,
        draw: bool = False,
        id_column: str | None = None,
        name: str = "dataset",
    ) -> None:
        if len(dataset) == 0:
            raise ValueError(f"The {name} is empty: it has the columns {dataset.column_names} and no rows.")
        self.image_column = image_column
        self.caption_column = check_columns(dataset.features, image_column, caption_column, id_column, name)
        self.draw, self.id_column = draw, id_column
        self.name = name
        # Bytes, not pictures: an undecodable image must be reported with its row, which `datasets` does not know.
        columns = list(dict.fromkeys([image_column, self.caption_column, *([id_column] if id_column else [])]))
        self.dataset = dataset.select_columns(columns).cast_column(image_column, Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows in one read, as PyTorch's data loader asks for them."""
        columns = self.dataset[list(rows)]
        found = zip(rows, columns[self.image_column], columns[self.caption_column], strict=True)
        examples = [{"image": self._image(row, image), "text": self._caption(row, text)} for row, image, text in found]
        if self.id_column is not None:
            examples = [e | {"id": id} for e, id in zip(examples, columns[self.id_column], strict=True)]
        return examples

    @property
    def captions(self) -> list[str]:
        """All captions of all rows, lists flattened."""
        return [text for entry in self.dataset[self.caption_column] for text in _texts(entry)]

    def column_values(self, column: str) -> list[Any]:
        """The values of `"text"` or `"id"`, one per row, as the data loader's examples have them."""
        columns = {"text": self.caption_column} | ({"id": self.id_column} if self.id_column else {})
        if column not in columns:
            raise ValueError(
                f"Examples of the {self.name} have no {column!r} to tell rows apart, but {sorted(columns)}."
            )
        return list(self.dataset[columns[column]])

    def _image(self, row: int, encoded: dict[str, Any] | None) -> PILImage.Image:
        return decode_image(encoded, f"row {row} of the {self.name}", self.image_column)

    def _caption(self, row: int, entry: str | Sequence[str | None] | None) -> str:
        texts = texts_of(entry, f"row {row} of the {self.name}", self.caption_column)
        # No random number for a single caption, so that such data leaves the random state of training alone.
        return texts[int(torch.randint(len(texts), ()))] if self.draw and len(texts) > 1 else texts[0]


def decode_image(encoded: dict[str, Any] | None, place: str, column: str) -> PILImage.Image:
    """The picture in a column of a row, whose `place` an error names."""
    if encoded is None:
        raise ValueError(f"{place[0].upper()}{place[1:]} has no image in column {column!r}.")
    data, path = encoded.get("bytes"), encoded.get("path")
    try:
        with PILImage.open(io.BytesIO(data) if data is not None else str(path)) as image:
            # Cameras store pictures as the sensor saw them, and beside them which way is up.
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
        size = f"{len(data)} bytes" if data is not None else repr(path)
        raise ValueError(
            f"The image in {place} (column {column!r}, {size}) cannot be decoded: {error}. Repair the row or drop it from "
            "the dataset."
        ) from error


def texts_of(entry: str | Sequence[str | None] | None, place: str, column: str) -> list[str]:
    """The captions in a column of a row, at least one."""
    texts = _texts(entry)
    if not texts:
        raise ValueError(f"{place[0].upper()}{place[1:]} has no caption in column {column!r}.")
    return texts


def _texts(entry: str | Sequence[str | None] | None) -> list[str]:
    """The captions of a row, without the blank ones."""
    texts = [entry] if isinstance(entry, str) else entry or []
    return [text for text in texts if text and text.strip()]


def check_columns(
    features: Mapping[str, Any], image_column: str, caption_column: str | None, id_column: str | None, name: str
) -> str:
    """The caption column of data whose columns of images, captions and ids are there and of the right kinds."""
    columns = list(features)
    found = find_caption_column(columns, caption_column, name)
    if image_column not in columns:
        raise ValueError(
            f"The {name} has no image column {image_column!r}. Its columns: {columns}. Name the right one with "
            "`image_column`."
        )
    if image_column == found:
        raise ValueError(
            f"`image_column` and `caption_column` of the {name} must differ, but both are {image_column!r}."
        )
    if id_column is not None and id_column not in columns:
        raise ValueError(f"The {name} has no `id_column` {id_column!r}. Its columns: {columns}.")
    _check_captions(features[found], found, name)
    _check_images(features[image_column], image_column, name)
    return found


def _check_captions(feature: Any, column: str, name: str) -> None:
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) else feature)
    if getattr(inner, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"Column {column!r} of the {name} must hold captions, a string or a list of strings, but its type is {feature}."
        )


def find_caption_column(columns: Sequence[str], wanted: str | None, name: str) -> str:
    """The caption column asked for, or the first of the usual names."""
    found = [column for column in ([wanted] if wanted else CAPTION_COLUMNS) if column in columns]
    if found:
        return found[0]
    missing = f"caption column {wanted!r}" if wanted else f"column called {', '.join(CAPTION_COLUMNS)}"
    raise ValueError(
        f"The {name} has no {missing}. Its columns: {list(columns)}. Name the right one with `caption_column`."
    )


def _check_images(feature: Any, column: str, name: str) -> None:
    paths_or_bytes = isinstance(feature, Value) and feature.dtype in (
        "string",
        "binary",
        "large_string",
        "large_binary",
    )
    stored = isinstance(feature, dict) and set(feature) == {"bytes", "path"}
    if not (isinstance(feature, Image) or paths_or_bytes or stored):
        raise ValueError(
            f"Column {column!r} of the {name} must hold images, their bytes or their paths, but its type is {feature}."
        )
