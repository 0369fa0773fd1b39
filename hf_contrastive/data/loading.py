"""From what a user names (a Hub id, a folder, a parquet file, nothing) to the splits of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    Image,
    IterableDataset,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)

from hf_contrastive.data.files import as_pairs, find_files, loader_of
from hf_contrastive.data.pair_stream import PairStream
from hf_contrastive.data.pairs import PairDataset
from hf_contrastive.data.scenes import load_scenes


# Rows held out of the training split where a dataset has no other: a tenth, within the usual size of a test pool.
HELD_OUT_SHARE, HELD_OUT_MAX = 0.1, 1000
# Parts of a stream of data that is there already, for as many workers and processes.
STREAM_SHARDS = 64


@dataclass(frozen=True, kw_only=True)
class PairSplits:
    """Training, validation and test data of a run."""

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
            tenth of the training split (at most 1,000 rows) is held out.
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
            Seed of the held-out rows, of captions that are drawn, and of the order of a stream.
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
    splits = _load(dataset, config, data_dir, streaming)
    name = "embedded scenes" if dataset is None else f"dataset {dataset!r}"
    for asked in (train_split, validation_split, test_split):
        if asked is not None and asked not in splits:
            raise ValueError(f"The {name} has no split {asked!r}. Its splits: {sorted(splits)}.")
    others = tuple(column for column in (where, id_column) if column is not None)
    splits = {
        split: as_pairs(rows, image_column=image_column, caption_column=caption_column, others=others)
        for split, rows in splits.items()
    }
    if where is not None:
        splits = {split: _undecoded(rows, image_column) for split, rows in splits.items()}
        splits = {split: _keep(rows, where, name) for split, rows in splits.items()}

    validation = validation_split or next((s for s in ("validation", "valid", "val", "dev") if s in splits), None)
    test = test_split or ("test" if "test" in splits else validation)
    train = splits[train_split]
    train, held_out = _hold_out(train, name, seed) if test is None else (train, splits[test])
    columns: dict[str, Any] = {"image_column": image_column, "caption_column": caption_column, "id_column": id_column}

    def pairs(rows: Dataset | IterableDataset, split: str, draw: bool = False) -> PairDataset:
        if isinstance(rows, IterableDataset):
            rows = _in_memory(rows, image_column, HELD_OUT_MAX if max_test_rows is None else max_test_rows)
        elif not draw and max_test_rows is not None:
            rows = rows.select(range(min(max_test_rows, len(rows))))
        return PairDataset(
            rows,
            draw=draw,
            on_bad_row=on_bad_row if draw else "raise",
            seed=seed,
            name=f"{split} split of the {name}",
            **columns,
        )

    def stream(rows: IterableDataset) -> PairStream:
        options: dict[str, Any] = {"buffer_size": buffer_size, "seed": seed, "on_bad_row": on_bad_row}
        return PairStream(rows, draw=True, name=f"{train_split} split of the {name}", **options, **columns)

    return PairSplits(
        train=stream(train) if streaming else pairs(train, train_split, True),
        validation=pairs(splits[validation] if validation else held_out, validation or test or "held-out"),
        test=pairs(held_out, test or "held-out"),
    )


def _load(
    dataset: str | None, config: str | None, data_dir: str | None, streaming: bool
) -> dict[str, Dataset | IterableDataset]:
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


def _as_asked(splits: DatasetDict, streaming: bool) -> dict[str, Dataset | IterableDataset]:
    """Data that is there already, as a stream if one was asked for."""
    return {
        split: rows.to_iterable_dataset(num_shards=min(STREAM_SHARDS, len(rows))) if streaming and len(rows) else rows
        for split, rows in splits.items()
    }


def _hold_out(
    train: Dataset | IterableDataset, name: str, seed: int
) -> tuple[Dataset | IterableDataset, Dataset | IterableDataset]:
    """A training split without the rows that are held out of it, and these."""
    if isinstance(train, IterableDataset):
        return _hold_out_last_file(train, name)
    if len(train) < 2:
        raise ValueError(f"The {name} has {len(train)} rows in its only split: too few to hold some out for a test.")
    parts = train.train_test_split(min(HELD_OUT_MAX, max(1, int(len(train) * HELD_OUT_SHARE))), seed=seed)
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


def _undecoded(rows: Dataset | IterableDataset, image_column: str) -> Dataset | IterableDataset:
    """Rows with bytes for images: whoever reads them on the way need not decode them, nor stumble over bad ones."""
    return rows.cast_column(image_column, Image(decode=False)) if image_column in (rows.features or {}) else rows


def _in_memory(rows: IterableDataset, image_column: str, number: int) -> Dataset:
    encoded = _undecoded(rows, image_column)
    return Dataset.from_list(list(encoded.take(number)), features=encoded.features)


def _keep(rows: Dataset | IterableDataset, column: str, name: str) -> Dataset | IterableDataset:
    if column not in rows.column_names or rows.features[column].dtype != "bool":
        raise ValueError(f"`where` must name a boolean column of the {name}, but got {column!r}: {rows.features}.")
    if isinstance(rows, IterableDataset):
        return rows.filter(bool, input_columns=[column])
    return rows.select([row for row, keep in enumerate(rows[column]) if keep])
