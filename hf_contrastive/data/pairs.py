"""Images with captions as a dataset that decodes what it is asked for and names the rows that it cannot read."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.rows import values_of


CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences")


class PairDataset(ExampleDataset):
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
            Whether to draw one caption of a list in each epoch, as `pick="random"` does. If not, the first is read.
        hard_negative_column (`str`, *optional*):
            Column with a caption or a list of captions that are wrong.
        options:
            Further arguments of [`ExampleDataset`]: `pick`, `num_hard_negatives`, `on_bad_row`, `id_column`, `seed`,
            `name`.

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
        hard_negative_column: str | None = None,
        name: str = "dataset",
        **options: Any,
    ) -> None:
        self.image_column = image_column
        self.caption_column = find_pair_columns(dataset.column_names, image_column, caption_column, name)
        if draw:
            options = {"pick": "random"} | options
        super().__init__(
            dataset,
            {"image": image_column, "text": self.caption_column},
            kinds={"image": "image", "text": "text"},
            hard_negatives={"text": hard_negative_column} if hard_negative_column else None,
            name=name,
            **options,
        )
        self.draw = self.picks["text"] == "random"

    @property
    def captions(self) -> list[str]:
        """All captions of all rows, lists flattened."""
        return [text for entry in self.dataset[self.caption_column] for text in values_of(entry, "text")]


def find_pair_columns(columns: Sequence[str], image_column: str, caption_column: str | None, name: str) -> str:
    """The caption column of data that has it and the image column."""
    found = find_caption_column(columns, caption_column, name)
    if image_column not in columns:
        raise ValueError(
            f"The {name} has no image column {image_column!r}. Its columns: {list(columns)}. Name the right one with "
            "`image_column`."
        )
    if image_column == found:
        raise ValueError(
            f"`image_column` and `caption_column` of the {name} must differ, but both are {image_column!r}."
        )
    return found


def find_caption_column(columns: Sequence[str], wanted: str | None, name: str) -> str:
    """The caption column asked for, or the first of the usual names."""
    found = [column for column in ([wanted] if wanted else CAPTION_COLUMNS) if column in columns]
    if found:
        return found[0]
    missing = f"caption column {wanted!r}" if wanted else f"column called {', '.join(CAPTION_COLUMNS)}"
    raise ValueError(
        f"The {name} has no {missing}. Its columns: {list(columns)}. Name the right one with `caption_column`."
    )
