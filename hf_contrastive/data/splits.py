"""From what a user names (a Hub id, a folder, a parquet file, nothing) to the rows of a training run's splits."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import datasets
from datasets import (
    Audio,
    Dataset,
    DatasetDict,
    Image,
    IterableDataset,
    List,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)

from hf_contrastive.data.files import find_files, loader_of
from hf_contrastive.data.scenes import load_scenes


# Rows held out of the training split where a dataset has no other: a tenth, within the usual size of a test pool.
HELD_OUT_SHARE, HELD_OUT_MAX = 0.1, 1000
# The same rows whatever the seed of a run: runs are compared on them, and a later look at a model must know them.
HELD_OUT_SEED = 0
# Parts of a stream of data that is there already, for as many workers and processes.
STREAM_SHARDS = 64

Rows: TypeAlias = Dataset | IterableDataset


@dataclass(frozen=True)
class Split:
    """Rows as they lie in files, and what messages call them."""

    rows: Rows
    name: str


@dataclass(frozen=True)
class OpenSplits:
    """
    The rows of a run.

    Args:
        train: To train on.
        validation: To watch while training.
        test: For the final numbers.
    """

    train: Split
    validation: Split
    test: Split


def open_splits(
    dataset: str | None,
    *,
    config: str | None = None,
    data_dir: str | None = None,
    train_split: str = "train",
    validation_split: str | None = None,
    test_split: str | None = None,
    where: str | None = None,
    max_test_rows: int | None = None,
    streaming: bool = False,
    prepare: Callable[[Rows], Rows],
) -> OpenSplits:
    """
    Splits of any dataset that `datasets` can load, of which only the one to train on may be a stream.

    `prepare` is applied to each split before rows are chosen; all else is as in [`load_pairs`].

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A split is missing or empty.
    """
    splits = _load(dataset, config, data_dir, streaming)
    name = "embedded scenes" if dataset is None else f"dataset {dataset!r}"
    for asked in (train_split, validation_split, test_split):
        if asked is not None and asked not in splits:
            raise ValueError(f"The {name} has no split {asked!r}. Its splits: {sorted(splits)}.")
    splits = {split: prepare(rows) for split, rows in splits.items()}
    if where is not None:
        splits = {split: _keep(undecoded(rows), where, name) for split, rows in splits.items()}

    validation = validation_split or next((s for s in ("validation", "valid", "val", "dev") if s in splits), None)
    test = test_split or ("test" if "test" in splits else validation)
    train = splits[train_split]
    train, held_out = _hold_out(train, name) if test is None else (train, splits[test])

    def measured(rows: Rows, split: str) -> Split:
        return Split(_first_rows(rows, max_test_rows), f"{split} split of the {name}")

    return OpenSplits(
        train=Split(train, f"{train_split} split of the {name}"),
        validation=measured(splits[validation] if validation else held_out, validation or test or "held-out"),
        test=measured(held_out, test or "held-out"),
    )


def undecoded(rows: Rows) -> Rows:
    """Rows with bytes for images and sounds: whoever reads them on the way need not decode them, nor stumble over bad ones."""
    for column, feature in (rows.features or {}).items():
        if (encoded := _encoded(feature)) is not None:
            rows = rows.cast_column(column, encoded)
    return rows


def resampled(rows: Rows, column: str, sampling_rate: int) -> Rows:
    """
    Rows whose sounds of a column, where they are encoded, will be decoded at a sampling rate.

    Raises:
        ImportError: They are encoded, and torchcodec is missing; install `hf-contrastive[audio]`.
    """
    feature = rows.features[column]
    inner = feature.feature if isinstance(feature, List) else feature
    if not isinstance(inner, Audio):
        return rows
    if not datasets.config.TORCHCODEC_AVAILABLE:
        raise ImportError(
            f"Column {column!r} holds encoded sounds, which `datasets` decodes with torchcodec and the system's FFmpeg: `pip "
            "install 'hf-contrastive[audio]'`. Or decode them to structs of `array` and `sampling_rate` first."
        )
    inner = Audio(sampling_rate=sampling_rate, decode=inner.decode)
    return rows.cast_column(column, List(inner) if isinstance(feature, List) else inner)


def _encoded(feature: Any) -> Any:
    """The type of a column that holds what one of this type holds, undecoded; None where nothing is decoded."""
    if isinstance(feature, List):
        inner = _encoded(feature.feature)
        return None if inner is None else List(inner)
    if not isinstance(feature, (Image, Audio)) or not feature.decode:
        return None
    encoded = copy(feature)
    encoded.decode = False
    return encoded


def _load(dataset: str | None, config: str | None, data_dir: str | None, streaming: bool) -> dict[str, Rows]:
    if dataset is None:
        return _as_asked(load_scenes(), streaming)
    path = Path(dataset).expanduser()
    if path.is_dir():
        if not any(path.iterdir()):
            raise ValueError(f"`dataset` is the folder {dataset!r}, which is empty.")
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            saved = load_from_disk(str(path))
            return _as_asked(saved if isinstance(saved, DatasetDict) else DatasetDict(train=saved), streaming)
        return load_dataset(str(path), config, streaming=streaming)
    if dataset.startswith((".", "/", "~")) and not path.exists() and not any(mark in dataset for mark in "{*?["):
        raise FileNotFoundError(f"`dataset` is the path {dataset!r}, where there is nothing.")
    if path.is_file() or any(mark in dataset for mark in "{*?["):
        files = find_files(dataset)
        return load_dataset(loader_of(files, dataset), data_files={"train": files}, streaming=streaming)
    return load_dataset(dataset, config, data_dir=data_dir, streaming=streaming)


def _as_asked(splits: DatasetDict, streaming: bool) -> dict[str, Rows]:
    """Data that is there already, as a stream if one was asked for."""
    return {
        split: rows.to_iterable_dataset(num_shards=min(STREAM_SHARDS, len(rows))) if streaming and len(rows) else rows
        for split, rows in splits.items()
    }


def _hold_out(train: Rows, name: str) -> tuple[Rows, Rows]:
    """A training split without the rows that are held out of it, and these."""
    if isinstance(train, IterableDataset):
        return _hold_out_last_file(train, name)
    if len(train) < 2:
        raise ValueError(f"The {name} has {len(train)} rows in its only split: too few to hold some out for a test.")
    parts = train.train_test_split(min(HELD_OUT_MAX, max(1, int(len(train) * HELD_OUT_SHARE))), seed=HELD_OUT_SEED)
    return parts["train"], parts["test"]


def _hold_out_last_file(train: IterableDataset, name: str) -> tuple[IterableDataset, IterableDataset]:
    # Not `take` and `skip`: in several workers, each would skip rows of its own part.
    files = train.num_shards
    if files < 2:
        raise ValueError(
            f"The {name} is one file with one split, of which a stream cannot hold out a part for a test. Name a split "
            "with `test_split`, write the data in several files, or do without `streaming`."
        )
    parts = [train.shard(files, index) for index in range(files)]
    return concatenate_datasets(parts[:-1]), parts[-1]


def _first_rows(rows: Rows, number: int | None) -> Dataset:
    """The first rows, in memory if they are a stream's."""
    if isinstance(rows, IterableDataset):
        encoded = undecoded(rows)
        first = list(encoded.take(HELD_OUT_MAX if number is None else number))
        return Dataset.from_list(first, features=encoded.features)
    return rows if number is None else rows.select(range(min(number, len(rows))))


def _keep(rows: Rows, column: str, name: str) -> Rows:
    if column not in rows.column_names or rows.features[column].dtype != "bool":
        raise ValueError(f"`where` must name a boolean column of the {name}, but got {column!r}: {rows.features}.")
    if isinstance(rows, IterableDataset):
        return rows.filter(bool, input_columns=[column])
    return rows.select([row for row, keep in enumerate(rows[column]) if keep])
