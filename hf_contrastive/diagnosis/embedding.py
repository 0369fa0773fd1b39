"""Embed the rows of a dataset with a model, once: what was computed before is read from disk."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from hf_contrastive.data import ExampleDataset, Modality, PairDataset, load_examples, load_pairs
from hf_contrastive.data.columns import read_rows
from hf_contrastive.data.modalities import IDS, by_modality
from hf_contrastive.data.pairs import find_caption_column
from hf_contrastive.data.splits import resampled
from hf_contrastive.diagnosis.files import as_ids
from hf_contrastive.diagnosis.options import DatasetOptions
from hf_contrastive.evaluators import ModelEncoder
from hf_contrastive.towers.cache import describe_collator, module_fingerprint


def draw_rows(number: int, wanted: int, seed: int) -> list[int]:
    """`wanted` of `number` rows in order, the same at every call with one seed; all if there are no more."""
    if number <= wanted:
        return list(range(number))
    drawn = torch.randperm(number, generator=torch.Generator().manual_seed(seed))[:wanted]
    return sorted(drawn.tolist())


def open_examples(options: DatasetOptions, processor: Any = None) -> ExampleDataset:
    """The rows that a model may embed, read as its processor takes them.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: The dataset, a split or a column is missing or of the wrong kind.
    """
    given = options.dataset
    if isinstance(given, ExampleDataset):
        return given
    if not isinstance(given, str | Path | datasets.Dataset | None):
        raise ValueError(
            "`dataset` must be a name or path for `load_pairs`, a `datasets.Dataset` or an `ExampleDataset`, but is a "
            f"{type(given).__name__}."
        )
    parts = by_modality(processor)
    if options.columns is not None or isinstance(parts, Mapping):
        return _open_any(options, parts if isinstance(parts, Mapping) else {})
    columns: dict[str, Any] = {"image_column": options.image_column, "caption_column": options.text_column}
    columns |= {"id_column": options.id_column}
    if isinstance(given, datasets.Dataset):
        return PairDataset(given, pick={"text": "all" if options.all_captions else "first"}, **columns)
    pairs = load_pairs(_name(given), **_source(options), **columns).test
    if not options.all_captions:
        return pairs
    return PairDataset(
        pairs.dataset,
        image_column=pairs.image_column,
        caption_column=pairs.caption_column,
        id_column=pairs.id_column,
        pick={"text": "all"},
        name=pairs.name,
    )


def _open_any(options: DatasetOptions, parts: Mapping[str, Modality]) -> ExampleDataset:
    """Rows of the modalities of a processor, or of those that have a column."""
    asked: dict[str, str | None] = dict(options.columns or {})
    if parts and (unknown := sorted(set(asked) - set(parts))):
        raise ValueError(f"`columns` is for {unknown}, but the model has the modalities {sorted(parts)}.")
    usual = {"image": options.image_column, "text": options.text_column}
    columns: dict[str, str | None] = {m: usual.get(m, m) for m in parts} | asked
    kinds = {m: str(part.kind) for m, part in parts.items()}
    rates = {m: part.sampling_rate(m) for m, part in parts.items() if part.kind == "audio"}
    if isinstance(options.dataset, datasets.Dataset):
        rows, name = options.dataset, "dataset"
        found = {m: find_caption_column(rows.column_names, None, name) if c is None else c for m, c in columns.items()}
        for m, rate in rates.items():
            rows = resampled(rows, found[m], rate) if found[m] in rows.column_names else rows
    else:
        ids, source = options.id_column, _source(options)
        examples = load_examples(
            _name(options.dataset), columns, kinds=kinds, sampling_rates=rates, id_column=ids, **source
        ).test
        if not options.all_captions:
            return examples
        rows, name, found, kinds = examples.dataset, examples.name, examples.columns, examples.kinds
    pick = {"text": "all"} if options.all_captions else "first"
    return ExampleDataset(rows, found, kinds=kinds, pick=pick, id_column=options.id_column, name=name)


def _name(dataset: str | Path | None) -> str | None:
    return None if dataset is None else str(dataset)


def _source(options: DatasetOptions) -> dict[str, Any]:
    splits = {} if options.split is None else {"train_split": options.split, "test_split": options.split}
    return {"config": options.config, "data_dir": options.data_dir, "where": options.where, **splits}


def embed_cached(
    model: Any, processor: Any, examples: ExampleDataset, rows: list[int], options: DatasetOptions
) -> dict[str, Tensor]:
    """Embeddings of rows by modality, and what they show as `ids` where that is known.

    They are kept in a file under a fingerprint of the model's weights and configuration, the processor, the dataset, its
    columns and the rows, and computed again when any of them differs.
    """
    what = [
        examples.dataset._fingerprint,
        [examples.columns, examples.picks, examples.id_column, examples.seed],
        rows,
        describe_collator(processor),
    ]
    root = Path(options.cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_contrastive_embeddings")
    file = root / f"{module_fingerprint(model, what)}.safetensors"
    if file.exists():
        try:
            return _read(file)
        except (SafetensorError, OSError) as error:
            warnings.warn(
                f"The embeddings in {str(file)!r} cannot be read ({error}), so they are made again.", stacklevel=2
            )
    root.mkdir(parents=True, exist_ok=True)
    # A file is whole or not there, whoever else writes it.
    part = file.with_suffix(f".{uuid4().hex}.part")
    try:
        save_file(_embed(model, processor, examples, rows, options), part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return _read(file)


def _read(file: Path) -> dict[str, Tensor]:
    with safe_open(file, "pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def _embed(
    model: Any, processor: Any, examples: ExampleDataset, rows: list[int], options: DatasetOptions
) -> dict[str, Tensor]:
    encode = ModelEncoder(model, processor, batch_size=options.batch_size, normalize=False)
    parts: dict[str, list[Tensor]] = {m: [] for m in examples.columns}
    ids: list[Any] = []
    starts = range(0, len(rows), options.batch_size)
    for start in tqdm(starts, desc="embedding", unit="batch", leave=False, disable=not options.progress):
        chunk = rows[start : start + options.batch_size]
        batch = read_rows(examples, chunk)
        for m, found in parts.items():
            values = [example[m] for example in batch]
            if None in values:
                raise ValueError(f"Row {chunk[values.index(None)]} of the {examples.name} has no {m}: drop it first.")
            found.append(encode(m, values))
        ids += [example.get(IDS, example.get("id")) for example in batch]
    known = {} if ids[0] is None else {IDS: as_ids(ids)}
    return {m: torch.cat(found).contiguous() for m, found in parts.items()} | known
