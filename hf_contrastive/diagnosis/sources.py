"""Where the embeddings of a diagnosis come from: a model and a dataset, files, or tensors."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from hf_contrastive.data import ExampleDataset, PairDataset, load_pairs
from hf_contrastive.data.modalities import IDS
from hf_contrastive.data.numbering import read_rows
from hf_contrastive.diagnosis.files import as_ids, as_matrices, is_embedding_file, read_embeddings
from hf_contrastive.evaluators import ModelEncoder
from hf_contrastive.models import load_dual_encoder
from hf_contrastive.towers.cache import describe_collator, module_fingerprint


# Rows that are embedded unless told otherwise: the usual test pool of COCO.
NUM_ROWS = 5000


@dataclass(frozen=True, kw_only=True)
class EmbeddingSource:
    """Embeddings of the same examples by modality, and what is known of them.

    Dimension key: n = rows, d = embedding width.

    Args:
        name: What tables and plots call them.
        embeds: By modality in alphabetical order, of the lengths that the model gives them.
        ids: What each row shows. By default every row is its own.
        logit_scale: Inverse temperature of the model, where there is one.
        dataset: Where the examples come from, where that is known.
        rows: Numbers of the rows in the dataset.
    """

    name: str
    embeds: dict[str, Float[Tensor, "n d"]]
    ids: Int[Tensor, "n"] | None = None
    logit_scale: float | None = None
    dataset: str | None = None
    rows: tuple[int, ...] | None = None


# A model's name, a model and its processor, files, tensors by modality, or what one of them became.
Source: TypeAlias = str | Path | tuple[Any, Any] | Sequence[str | Path] | Mapping[str, Any] | EmbeddingSource


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """
    Which rows a model embeds, and how.

    Args:
        dataset (`str`, [`~datasets.Dataset`] or [`ExampleDataset`], *optional*):
            What [`load_pairs`] loads, or data that is there. By default the scenes that come with this package.
        config (`str`, *optional*):
            Configuration of the dataset.
        split (`str`, *optional*):
            Split to embed. By default `test`, `validation`, or the rows that training with this package holds out.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of images.
        text_column (`str`, *optional*):
            Column of texts. By default the first of the usual names, such as `caption`.
        id_column (`str`, *optional*):
            Column that tells which rows show the same.
        num_rows (`int`, *optional*, defaults to 5,000):
            Rows to embed at most, drawn with the seed.
        batch_size (`int`, *optional*, defaults to 64):
            Rows to embed at a time.
        device (`str`, *optional*):
            Where a model that is loaded runs. By default a GPU if there is one.
        cache_dir (`str` or `Path`, *optional*):
            Folder of embeddings that were computed before. By default one in the cache of `datasets`.
        seed (`int`, *optional*, defaults to 0):
            Seed of the rows that are drawn.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a bar.
    """

    dataset: Any = None
    config: str | None = None
    split: str | None = None
    image_column: str = "image"
    text_column: str | None = None
    id_column: str | None = None
    num_rows: int = NUM_ROWS
    batch_size: int = 64
    device: str | None = None
    cache_dir: str | Path | None = None
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("num_rows", "batch_size"):
            least = 1 if name == "batch_size" else 2
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, but got {getattr(self, name)}.")


def open_source(source: Source, options: DatasetOptions, *, ids: Any = None) -> EmbeddingSource:
    """
    The embeddings that a source stands for.

    Args:
        source (`str`, `tuple`, `list[str]` or `dict[str, Tensor]`):
            A model (Hub id or folder), or model and processor; one or several files of embeddings, see
            [`read_embeddings`]; embeddings by modality.
        options ([`DatasetOptions`]):
            Data for a model.
        ids (`Tensor`, `list` or `str`, *optional*):
            What each row of given embeddings shows: values, or a file of them.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: The source cannot be used; the message says what it was and what is allowed.
    """
    if isinstance(source, EmbeddingSource):
        return source
    if isinstance(source, Mapping):
        embeds = as_matrices(source)
        return _drawn(EmbeddingSource(name="embeddings", embeds=embeds, ids=_given_ids(ids, embeds)), options)
    if isinstance(source, str | Path):
        source = [source]
    if len(source) == 2 and not isinstance(source[0], str | Path):
        model, processor = source
        return _embedded(model, processor, model.config.name_or_path or type(model).__name__, options, ids)
    names = [str(name) for name in source]
    if len(names) == 1 and not is_embedding_file(names[0]) and not Path(names[0]).expanduser().is_file():
        model, processor = load_dual_encoder(names[0])
        model = model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return _embedded(model, processor, names[0], options, ids)
    if options.dataset is not None:
        raise ValueError(f"`dataset` is for a model to embed, but {names} are embeddings already. Leave it out.")
    embeds, found = read_embeddings(names, ids=ids if isinstance(ids, str | Path) else None)
    if ids is not None and not isinstance(ids, str | Path):
        found = _given_ids(ids, embeds)
    name = " + ".join(Path(name).name for name in names)
    return _drawn(EmbeddingSource(name=name, embeds=embeds, ids=found), options)


def _given_ids(ids: Any, embeds: Mapping[str, Tensor]) -> Tensor | None:
    if ids is None:
        return None
    rows = len(next(iter(embeds.values())))
    if len(ids) != rows:
        raise ValueError(f"`ids` must hold one id for each of {rows} rows, but holds {len(ids)}.")
    return as_ids(ids.tolist() if isinstance(ids, Tensor) else list(ids))


def _drawn(source: EmbeddingSource, options: DatasetOptions) -> EmbeddingSource:
    """At most `num_rows` of given rows, in alphabetical order of the modalities."""
    rows = draw_rows(len(next(iter(source.embeds.values()))), options.num_rows, options.seed)
    embeds = {m: x[torch.tensor(rows)] for m, x in sorted(source.embeds.items())}
    ids = None if source.ids is None else source.ids[torch.tensor(rows)]
    return replace(source, embeds=embeds, ids=ids, rows=tuple(rows))


def draw_rows(number: int, wanted: int, seed: int) -> list[int]:
    """`wanted` of `number` rows in order, the same at every call with one seed; all if there are no more."""
    if number <= wanted:
        return list(range(number))
    drawn = torch.randperm(number, generator=torch.Generator().manual_seed(seed))[:wanted]
    return sorted(drawn.tolist())


def _embedded(model: Any, processor: Any, name: str, options: DatasetOptions, ids: Any) -> EmbeddingSource:
    if ids is not None:
        raise ValueError("`ids` are those of given embeddings. For a dataset, name its column with `id_column`.")
    examples, title = _examples(options)
    rows = draw_rows(len(examples), options.num_rows, options.seed)
    if len(rows) < 2:
        raise ValueError(f"A diagnosis needs two rows or more, but the {title} has {len(rows)}.")
    found = _cached(model, processor, examples, rows, options)
    shown = found.pop(IDS, None)
    scale = getattr(model, "logit_scale", None)
    return EmbeddingSource(
        name=name,
        embeds=dict(sorted(found.items())),
        ids=shown,
        logit_scale=None if scale is None else float(scale.detach().float().mean().exp()),
        dataset=title,
        rows=tuple(rows),
    )


def _examples(options: DatasetOptions) -> tuple[ExampleDataset, str]:
    given = options.dataset
    if isinstance(given, ExampleDataset):
        return given, given.name
    columns = {"image_column": options.image_column, "caption_column": options.text_column}
    if isinstance(given, datasets.Dataset):
        pairs = PairDataset(given, id_column=options.id_column, **columns)
        return pairs, pairs.name
    if not isinstance(given, str | Path | None):
        raise ValueError(
            "`dataset` must be a name or path for `load_pairs`, a `datasets.Dataset` or an `ExampleDataset`, but is a "
            f"{type(given).__name__}."
        )
    chosen = {} if options.split is None else {"train_split": options.split, "test_split": options.split}
    name = None if given is None else str(given)
    pairs = load_pairs(name, config=options.config, id_column=options.id_column, seed=0, **columns, **chosen).test
    return pairs, pairs.name


def _cached(
    model: Any, processor: Any, examples: ExampleDataset, rows: list[int], options: DatasetOptions
) -> dict[str, Tensor]:
    what = [
        examples.dataset._fingerprint,
        [examples.columns, examples.picks, examples.id_column, examples.seed],
        rows,
        describe_collator(processor),
    ]
    root = Path(options.cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_contrastive_embeddings")
    file = root / f"{module_fingerprint(model, what)}.safetensors"
    if not file.exists():
        root.mkdir(parents=True, exist_ok=True)
        # A file is whole or not there.
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            save_file(_embed(model, processor, examples, rows, options), part)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
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
