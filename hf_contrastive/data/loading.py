"""From what a user names (a Hub id, a folder, a parquet file, nothing) to the splits of a training run."""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from hf_contrastive.data.pairs import PairDataset
from hf_contrastive.data.scenes import load_scenes


# Rows held out of the training split where a dataset has no other: a tenth, within the usual size of a test pool.
HELD_OUT_SHARE, HELD_OUT_MAX = 0.1, 1000


@dataclass(frozen=True, kw_only=True)
class PairSplits:
    """Training, validation and test data of a run."""

    train: PairDataset
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
) -> PairSplits:
    """
    Image-text pairs of any dataset that `datasets` can load.

    Args:
        dataset (`str`, *optional*):
            A Hub id, a folder (of files, of images with metadata, or written by `save_to_disk`), a parquet, JSON or CSV
            file, or the name of a loader such as `imagefolder`. By default the scenes that come with this package.
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
            What becomes of training rows that cannot be used, see [`ExampleDataset`]. Others raise: a pool with other rows
            in place of bad ones would have other numbers.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the held-out rows and of captions that are drawn.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A split or column is missing or empty.
    """
    splits = _load(dataset, config, data_dir)
    name = "embedded scenes" if dataset is None else f"dataset {dataset!r}"
    if train_split not in splits:
        raise ValueError(f"The {name} has no split {train_split!r}. Its splits: {sorted(splits)}.")
    for asked in (validation_split, test_split):
        if asked is not None and asked not in splits:
            raise ValueError(f"The {name} has no split {asked!r}. Its splits: {sorted(splits)}.")
    if where is not None:
        splits = DatasetDict({split: _keep(rows, where, name) for split, rows in splits.items()})

    validation = validation_split or next((s for s in ("validation", "valid", "val", "dev") if s in splits), None)
    test = test_split or ("test" if "test" in splits else validation)
    train = splits[train_split]
    if test is None:
        if len(train) < 2:
            raise ValueError(
                f"The {name} has {len(train)} rows in its only split: too few to hold some out for a test."
            )
        parts = train.train_test_split(min(HELD_OUT_MAX, max(1, int(len(train) * HELD_OUT_SHARE))), seed=seed)
        train, held_out = parts["train"], parts["test"]
    else:
        held_out = splits[test]

    def pairs(rows: Dataset, split: str, draw: bool) -> PairDataset:
        rows = rows if draw or max_test_rows is None else rows.select(range(min(max_test_rows, len(rows))))
        return PairDataset(
            rows,
            image_column=image_column,
            caption_column=caption_column,
            draw=draw,
            id_column=id_column,
            on_bad_row=on_bad_row if draw else "raise",
            seed=seed,
            name=f"{split} split of the {name}",
        )

    return PairSplits(
        train=pairs(train, train_split, True),
        validation=pairs(splits[validation] if validation else held_out, validation or test or "held-out", False),
        test=pairs(held_out, test or "held-out", False),
    )


def _load(dataset: str | None, config: str | None, data_dir: str | None) -> DatasetDict:
    if dataset is None:
        return load_scenes()
    path = Path(dataset).expanduser()
    if path.is_file():
        loaders = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}
        if path.suffix not in loaders:
            raise ValueError(f"`dataset` is the file {dataset!r}; files must end in {', '.join(loaders)}.")
        if path.stat().st_size == 0:
            raise ValueError(f"`dataset` is the file {dataset!r}, which is empty.")
        return load_dataset(loaders[path.suffix], data_files={"train": str(path)})
    if path.is_dir():
        if not any(path.iterdir()):
            raise ValueError(f"`dataset` is the folder {dataset!r}, which is empty.")
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            saved = load_from_disk(str(path))
            return saved if isinstance(saved, DatasetDict) else DatasetDict(train=saved)
        return load_dataset(str(path), config)
    if dataset.startswith((".", "/", "~")):
        raise FileNotFoundError(f"`dataset` is the path {dataset!r}, where there is nothing.")
    return load_dataset(dataset, config, data_dir=data_dir)


def _keep(rows: Dataset, column: str, name: str) -> Dataset:
    if column not in rows.column_names or rows.features[column].dtype != "bool":
        raise ValueError(f"`where` must name a boolean column of the {name}, but got {column!r}: {rows.features}.")
    return rows.select([row for row, keep in enumerate(rows[column]) if keep])
