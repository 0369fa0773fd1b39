"""Images with captions as a stream."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from datasets import Image, IterableDataset

from hf_contrastive.data.good_rows import ROW_NUMBER, CountedRows, GoodRows
from hf_contrastive.data.pairs import find_pair_columns
from hf_contrastive.data.rows import Place, check_kind, is_list, read, refuse_absent, values_of
from hf_contrastive.data.shuffling import ShuffledStream, as_resumable


# What `datasets` calls the place of a row in a WebDataset.
KEY, FILE = "__key__", "__url__"
# Enough for a tokenizer's vocabulary.
MAX_CAPTIONS = 100_000


class PairStream(GoodRows):
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
        if dataset.features is None:
            raise ValueError(
                f"The columns of the {name} are not known, as after `map`. Give it `features`: "
                "`dataset.map(..., features=...)` or `dataset.cast(features)`."
            )
        self.image_column, self.draw, self.id_column, self.seed = image_column, draw, id_column, seed
        self.caption_column = find_pair_columns(list(dataset.features), image_column, caption_column, name)
        if id_column is not None and id_column not in dataset.features:
            raise ValueError(f"The {name} has no `id_column` {id_column!r}. Its columns: {list(dataset.features)}.")
        self._features = dict(dataset.features)
        check_kind(self._features[self.caption_column], "text", self.caption_column, name)
        check_kind(self._features[image_column], "image", image_column, name)
        if is_list(self._features[image_column], "image"):
            raise ValueError(
                f"Column {image_column!r} of the {name} must hold one image in each row, not a list of them."
            )
        wanted = [image_column, self.caption_column, *([id_column] if id_column else []), KEY, FILE]
        columns = [column for column in dict.fromkeys(wanted) if column in dataset.features]
        # Bytes, not pictures: a buffer of pictures would not fit, and one that cannot be decoded must be named.
        encoded = dataset.select_columns(columns).cast_column(image_column, Image(decode=False))
        # Counted before they are shuffled: by its number, a bad row is found.
        source = CountedRows(as_resumable(encoded))
        shuffled = ShuffledStream(source, buffer_size, seed) if buffer_size else source
        super().__init__(shuffled, on_bad_row=on_bad_row, name=name)
        self._encoded, self._part = encoded, 0

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "PairStream":
        """One of `num_shards` parts, with captions of its own."""
        part = super().shard(num_shards, index, contiguous)
        assert isinstance(part, PairStream)
        part._part = self._part * num_shards + index + 1
        return part

    @property
    def captions(self) -> Iterator[str]:
        """All captions of the first 100,000 rows, in the order of the files."""
        for row in islice(self._encoded.select_columns([self.caption_column]), MAX_CAPTIONS):
            yield from values_of(row[self.caption_column], "text")

    def where(self, row: dict[str, Any]) -> str:
        """The place of a row, for messages."""
        return f"row {row[KEY]!r} in {row[FILE]} of the {self.name}" if KEY in row else super().where(row)

    def example(self, row: dict[str, Any]) -> dict[str, Any]:
        """The picture and a caption of a row."""
        number, where = row[ROW_NUMBER], self.where(row)
        image_place, text_place = Place(where, self.image_column), Place(where, self.caption_column)
        texts = values_of(row[self.caption_column], "text")
        if not texts:
            refuse_absent("text", text_place)
        if row[self.image_column] is None:
            refuse_absent("image", image_place)
        # From the place in the stream, not from a generator that a resumed run would have to find as it was.
        rng = np.random.default_rng((self.seed, self.epoch, self._part, number)) if len(texts) > 1 else None
        text = texts[int(rng.integers(len(texts)))] if self.draw and rng is not None else texts[0]
        image = read(row[self.image_column], "image", self._features[self.image_column], image_place)
        example = {"image": image, "text": text}
        return example | ({"id": row[self.id_column]} if self.id_column else {})
