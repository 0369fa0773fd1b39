"""Images with captions as a stream."""

from collections.abc import Iterator
from itertools import islice

from datasets import IterableDataset

from hf_contrastive.data.example_stream import ExampleStream, known_features
from hf_contrastive.data.pairs import find_pair_columns
from hf_contrastive.data.rows import check_kind, is_list, values_of


# Enough for a tokenizer's vocabulary.
MAX_CAPTIONS = 100_000


class PairStream(ExampleStream):
    """
    Rows `{"image": PIL image, "text": str}` of an [`~datasets.IterableDataset`], the stream that [`PairDataset`] is a map.

    Args:
        dataset ([`~datasets.IterableDataset`]):
            Stream with one row per image, whose columns are known.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of images, encoded or as file paths.
        caption_column (`str`, *optional*):
            Column with a caption or a list of captions. By default the first of `caption`, `captions`, `text`,
            `sentence` and `sentences` that exists.
        draw (`bool`, *optional*, defaults to `False`):
            Whether to draw one caption of a list, another in each epoch and the same in a resumed run. If not, the first
            is read.
        id_column (`str`, *optional*):
            Column that tells what a row shows, see [`PairDataset`].
        buffer_size (`int`, *optional*, defaults to 0):
            Rows that are shuffled with each other, before their images are decoded. By default none are.
        on_bad_row (`str`, *optional*, defaults to `"raise"`):
            What becomes of a row whose picture cannot be decoded, or that has none or no caption: `"raise"` an error that
            names it, by key and tar in a WebDataset, else by its number in the stream or in the part that a process or
            worker reads; or `"skip"` it. The rows that follow then fill its batch, and the trainer counts it as
            `data/skipped_rows`, the same in a resumed run.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order and of the captions.
        name (`str`, *optional*, defaults to `"stream"`):
            What to call the data in messages.

    Raises:
        ValueError: A column is missing or of the wrong kind. When a row is read: it is bad, or all are, or 10,000 in a row.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        *,
        image_column: str = "image",
        caption_column: str | None = None,
        draw: bool = False,
        id_column: str | None = None,
        buffer_size: int = 0,
        on_bad_row: str = "raise",
        seed: int = 0,
        name: str = "stream",
    ) -> None:
        features = known_features(dataset, name)
        self.image_column = image_column
        self.caption_column = find_pair_columns(list(features), image_column, caption_column, name)
        check_kind(features[self.caption_column], "text", self.caption_column, name)
        check_kind(features[image_column], "image", image_column, name)
        if is_list(features[image_column], "image"):
            raise ValueError(
                f"Column {image_column!r} of the {name} must hold one image in each row, not a list of them."
            )
        super().__init__(
            dataset,
            {"image": image_column, "text": self.caption_column},
            kinds={"image": "image", "text": "text"},
            draw=draw,
            id_column=id_column,
            buffer_size=buffer_size,
            on_bad_row=on_bad_row,
            seed=seed,
            name=name,
        )

    @property
    def captions(self) -> Iterator[str]:
        """All captions of the first 100,000 rows, in the order of the files."""
        for row in islice(self._encoded.select_columns([self.caption_column]), MAX_CAPTIONS):
            yield from values_of(row[self.caption_column], "text")
