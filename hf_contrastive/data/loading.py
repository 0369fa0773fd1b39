"""From what a user names (a Hub id, a folder, a parquet file, nothing) to the examples of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Dataset
from transformers.utils import logging

from hf_contrastive.data.example_stream import ExampleStream, known_features
from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.files import as_pairs, with_entries
from hf_contrastive.data.modalities import Kind
from hf_contrastive.data.pair_stream import PairStream
from hf_contrastive.data.pairs import PairDataset, find_caption_column
from hf_contrastive.data.splits import Rows, Split, open_splits, resampled


logger = logging.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExampleSplits:
    """Training, validation and test data of a run."""

    train: ExampleDataset | ExampleStream
    validation: ExampleDataset
    test: ExampleDataset


@dataclass(frozen=True, kw_only=True)
class PairSplits(ExampleSplits):
    """Those of images with captions."""

    train: PairDataset | PairStream
    validation: PairDataset
    test: PairDataset


def load_pairs(
    dataset: str | None = None,
    *,
    config: str | None = None,
    data_dir: str | None = None,
    image_column: str = "image",
    caption_column: str | None = None,
    train_split: str = "train",
    validation_split: str | None = None,
    test_split: str | None = None,
    where: str | None = None,
    id_column: str | None = None,
    max_test_rows: int | None = None,
    on_bad_row: str = "raise",
    seed: int = 0,
    streaming: bool = False,
    buffer_size: int = 10_000,
) -> PairSplits:
    """
    Image-text pairs of any dataset that `datasets` can load.

    Args:
        dataset (`str`, *optional*):
            A Hub id, a folder (of files, of images with metadata, or written by `save_to_disk`), parquet, JSON or CSV files
            or tars of a WebDataset (a name or a pattern, `shards/{000..127}.tar` or `shards/*.parquet`), or the name of a
            loader such as `imagefolder`. By default the scenes that come with this package. The columns of a WebDataset
            are its pictures as `image_column` and its `txt` files, or a caption in its `json` files.
        config (`str`, *optional*):
            Configuration of the dataset.
        data_dir (`str`, *optional*):
            Folder for a loader such as `imagefolder`.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of images.
        caption_column (`str`, *optional*):
            Column of captions, see [`PairDataset`].
        train_split (`str`, *optional*, defaults to `"train"`):
            Split to train on.
        validation_split (`str`, *optional*):
            Split to watch while training. By default `validation`, or what the test split is.
        test_split (`str`, *optional*):
            Split for the final numbers. By default `test`, or what the validation split is; where there is neither, a
            tenth of the training split (at most 1,000 rows, the same ones in every run) is held out.
        where (`str`, *optional*):
            Keep only the rows where this boolean column is true.
        id_column (`str`, *optional*):
            Column that tells which rows show the same, see [`PairDataset`].
        max_test_rows (`int`, *optional*):
            Keep only so many rows of the validation and test splits, the first ones.
        on_bad_row (`str`, *optional*, defaults to `"raise"`):
            What becomes of training rows that cannot be used, see [`ExampleDataset`] and, if `streaming`, [`PairStream`].
            Others raise: a pool with other rows in place of bad ones would have other numbers.
        seed (`int`, *optional*, defaults to `0`):
            Seed of captions that are drawn and of the order of a stream.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read the training split while training instead of preparing it first. Validation and test splits
            are held in memory, at most 1,000 rows of each unless `max_test_rows` says otherwise. Where there are none, the
            last file is held out.
        buffer_size (`int`, *optional*, defaults to 10,000):
            Rows of a stream that are shuffled with each other, 0 for the order of the files.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A split or column is missing or empty.
    """
    others = tuple(column for column in (where, id_column) if column is not None)

    def prepare(rows: Rows) -> Rows:
        return as_pairs(rows, image_column=image_column, caption_column=caption_column, others=others)

    splits = open_splits(
        dataset,
        config=config,
        data_dir=data_dir,
        train_split=train_split,
        validation_split=validation_split,
        test_split=test_split,
        where=where,
        max_test_rows=max_test_rows,
        streaming=streaming,
        prepare=prepare,
    )
    columns: dict[str, Any] = {"image_column": image_column, "caption_column": caption_column, "id_column": id_column}
    training: dict[str, Any] = columns | {"draw": True, "on_bad_row": on_bad_row, "seed": seed}

    def measured(split: Split) -> PairDataset:
        return PairDataset(split.rows, name=split.name, seed=seed, **columns)

    train = splits.train
    return PairSplits(
        train=PairDataset(train.rows, name=train.name, **training)
        if isinstance(train.rows, Dataset)
        else PairStream(train.rows, name=train.name, buffer_size=buffer_size, **training),
        validation=measured(splits.validation),
        test=measured(splits.test),
    )


def load_examples(
    dataset: str | None,
    columns: Mapping[str, str | None],
    *,
    kinds: Mapping[str, Kind] | None = None,
    sampling_rates: Mapping[str, int] | None = None,
    where: str | None = None,
    id_column: str | None = None,
    on_bad_row: str = "raise",
    seed: int = 0,
    buffer_size: int = 10_000,
    **source: Any,
) -> ExampleSplits:
    """
    Examples of any modalities of any dataset that `datasets` can load.

    Args:
        dataset (`str`):
            As for [`load_pairs`]. The columns of a WebDataset are called after its files, such as `jpg`, `txt` and `flac`,
            and after the entries of its `json` files.
        columns (`dict[str, str]`):
            Column of each modality, None for the first of those that [`load_pairs`] looks for captions in. One of lists is
            read as [`load_pairs`] reads captions.
        kinds (`dict[str, str]`, *optional*):
            What modalities are, see [`ExampleDataset`].
        sampling_rates (`dict[str, int]`, *optional*):
            By modality, the samples a second that encoded sounds are decoded at. By default their own.
        where (`str`, *optional*):
            As for [`load_pairs`], and so are the next.
        id_column (`str`, *optional*):
            Column that tells which rows show the same.
        on_bad_row (`str`, *optional*, defaults to `"raise"`):
            What becomes of training rows that cannot be used.
        seed (`int`, *optional*, defaults to `0`):
            Seed of what is drawn and of the order of a stream.
        buffer_size (`int`, *optional*, defaults to 10,000):
            Rows of a stream that are shuffled with each other.
        source:
            `config`, `data_dir`, `train_split`, `validation_split`, `test_split`, `max_test_rows` and `streaming`, as for
            [`load_pairs`].

    Returns:
        [`ExampleSplits`]: With three modalities and more, without those rows of validation and test that lack one:
        measures need all.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A split or column is missing or empty.
    """
    wanted = [column for column in (*columns.values(), where, id_column) if column is not None]

    def prepare(rows: Rows) -> Rows:
        rows = with_entries(rows, wanted)
        for m, rate in (sampling_rates or {}).items():
            if (column := columns[m]) is not None and column in (rows.features or {}):
                rows = resampled(rows, column, rate)
        return rows

    splits = open_splits(dataset, where=where, prepare=prepare, **source)
    train = splits.train
    known = list(known_features(train.rows, train.name))
    found = {m: find_caption_column(known, None, train.name) if c is None else c for m, c in columns.items()}
    for m, column in found.items():
        if column not in known:
            raise ValueError(
                f"The {train.name} has no column {column!r} for {m!r}. Its columns: {known}. Name the right one with `columns`."
            )
    reading: dict[str, Any] = {"columns": found, "kinds": kinds, "id_column": id_column, "seed": seed}

    def measured(split: Split) -> ExampleDataset:
        return ExampleDataset(_complete(split, found), name=split.name, **reading)

    reading_train: dict[str, Any] = reading | {"on_bad_row": on_bad_row, "name": train.name}
    return ExampleSplits(
        train=ExampleDataset(train.rows, pick="random", **reading_train)
        if isinstance(train.rows, Dataset)
        else ExampleStream(train.rows, draw=True, buffer_size=buffer_size, **reading_train),
        validation=measured(splits.validation),
        test=measured(splits.test),
    )


def _complete(split: Split, columns: Mapping[str, str]) -> Any:
    """The rows of a split that have all of three modalities and more, of which a row may lack some."""
    found = [c for c in columns.values() if c in split.rows.column_names]
    if len(columns) < 3 or not found:
        return split.rows
    table = split.rows.select_columns(found).with_format("arrow")[:]
    missing = {row for c in found for row, value in enumerate(table.column(c)) if not _is_there(value)}
    if not missing:
        return split.rows
    logger.warning(
        f"{len(missing)} of {len(split.rows)} rows of the {split.name} lack one of {list(columns.values())} and are not "
        "measured, since measures need all."
    )
    return split.rows.select([row for row in range(len(split.rows)) if row not in missing])


def _is_there(value: pa.Scalar) -> bool:
    """Whether a row has a value, of a list one at least."""
    if isinstance(value, pa.ListScalar):
        return value.is_valid and any(entry.is_valid for entry in value.values)
    return bool(value.is_valid)
