"""Examples of any modalities as a stream."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset, DatasetInfo, IterableDataset

from hf_contrastive.data.good_rows import ROW_NUMBER, CountedRows, GoodRows
from hf_contrastive.data.modalities import Kind
from hf_contrastive.data.rows import Place, as_encoded, check_kind, kind_of, present_values, read
from hf_contrastive.data.shuffling import ShuffledStream, as_resumable


# What `datasets` calls the place of a row in a WebDataset.
KEY, FILE = "__key__", "__url__"


class ExampleStream(GoodRows):
    """
    Rows `{modality: value}` of an [`~datasets.IterableDataset`], the stream that [`ExampleDataset`] is a map.

    With three modalities and more, a row may lack some (`None`) but must have two.

    Args:
        dataset ([`~datasets.IterableDataset`]):
            Stream whose columns are known.
        columns (`dict[str, str]`):
            Column of each modality. It holds one value, or a list of several such as captions of one image.
        kinds (`dict[str, str]`, *optional*):
            What modalities are, of `"image"`, `"text"`, `"audio"` and `"embedding"`, where their columns do not tell.
        draw (`bool`, *optional*, defaults to `False`):
            Whether to draw one value of a list, another in each epoch and the same in a resumed run. If not, the first is
            read.
        id_column (`str`, *optional*):
            Column that tells what a row shows, see [`ExampleDataset`].
        buffer_size (`int`, *optional*, defaults to 0):
            Rows that are shuffled with each other, before they are decoded. By default none are.
        on_bad_row (`str`, *optional*, defaults to `"raise"`):
            What becomes of a row that cannot be decoded, is empty, not finite or nothing but zeros: `"raise"` an error that
            names it, by key and tar in a WebDataset, else by its number in the stream or in the part that a process or
            worker reads; or `"skip"` it. The rows that follow then fill its batch, and the trainer counts it as
            `data/skipped_rows`, the same in a resumed run.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order and of what is drawn.
        name (`str`, *optional*, defaults to `"stream"`):
            What to call the data in messages.

    Raises:
        ValueError: A column is missing or of the wrong kind. When a row is read: it is bad, or all are, or 10,000 in a row.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        columns: Mapping[str, str],
        *,
        kinds: Mapping[str, Kind] | None = None,
        draw: bool = False,
        id_column: str | None = None,
        buffer_size: int = 0,
        on_bad_row: str = "raise",
        seed: int = 0,
        name: str = "stream",
    ) -> None:
        features = known_features(dataset, name)
        self.columns, self.id_column, self.draw, self.seed = dict(columns), id_column, draw, seed
        wanted = [*self.columns.values(), *([id_column] if id_column else [])]
        for column in wanted:
            if column not in features:
                argument = "`id_column`" if column == id_column else "column"
                raise ValueError(f"The {name} has no {argument} {column!r}. Its columns: {list(features)}.")
        self.features = features
        self.kinds: dict[str, Kind] = {
            m: (kinds or {}).get(m) or kind_of(features[column], column, name) for m, column in self.columns.items()
        }
        kept = [column for column in dict.fromkeys([*wanted, KEY, FILE]) if column in features]
        encoded = dataset.select_columns(kept)
        for m, column in self.columns.items():
            check_kind(features[column], self.kinds[m], column, name)
            # Bytes, not pictures: a buffer of pictures would not fit, and one that cannot be decoded must be named.
            encoded = as_encoded(encoded, column, self.kinds[m])
        # Counted before they are shuffled: by its number, a bad row is found.
        source = CountedRows(as_resumable(encoded))
        shuffled = ShuffledStream(source, buffer_size, seed) if buffer_size else source
        super().__init__(shuffled, on_bad_row=on_bad_row, name=name)
        self._encoded, self._part = encoded, 0

    def shard(self, num_shards: int, index: int, contiguous: bool = True) -> "ExampleStream":
        """One of `num_shards` parts, with draws of its own."""
        part = super().shard(num_shards, index, contiguous)
        assert isinstance(part, ExampleStream)
        part._part = self._part * num_shards + index + 1
        return part

    @property
    def info(self) -> DatasetInfo:
        """What `datasets` knows of the data, such as its name and licence."""
        return self._encoded.info

    def where(self, row: dict[str, Any]) -> str:
        """The place of a row, for messages."""
        return f"row {row[KEY]!r} in {row[FILE]} of the {self.name}" if KEY in row else super().where(row)

    def example(self, row: dict[str, Any]) -> dict[str, Any]:
        """The values of a row, one of each modality that it has."""
        where = self.where(row)
        found = present_values(row, self.columns, self.kinds, where)
        rng: np.random.Generator | None = None
        if self.draw and any(len(values) > 1 for values in found.values()):
            # From the place in the stream, not from a generator that a resumed run would have to find as it was.
            rng = np.random.default_rng((self.seed, self.epoch, self._part, row[ROW_NUMBER]))
        example: dict[str, Any] = {}
        for m, values in found.items():
            number = 0 if rng is None or len(values) < 2 else int(rng.integers(len(values)))
            feature = self.features[self.columns[m]]
            example[m] = (
                read(values[number], self.kinds[m], feature, Place(where, self.columns[m])) if values else None
            )
        return example | ({"id": row[self.id_column]} if self.id_column else {})


def known_features(dataset: Dataset | IterableDataset, name: str) -> dict[str, Any]:
    """The types of a stream's columns, which must be known before it is read."""
    if dataset.features is None:
        raise ValueError(
            f"The columns of the {name} are not known, as after `map`. Give it `features`: "
            "`dataset.map(..., features=...)` or `dataset.cast(features)`."
        )
    return dict(dataset.features)
