"""Where the embeddings of a diagnosis come from: a model and a dataset, files, or tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.data.modalities import IDS
from hf_contrastive.diagnosis.embedding import draw_rows, embed_cached, open_examples
from hf_contrastive.diagnosis.files import as_ids, as_matrices, is_embedding_file, read_embeddings
from hf_contrastive.diagnosis.options import DatasetOptions
from hf_contrastive.models import load_dual_encoder


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
        available: Rows of the dataset.
        given: The modalities in the order of the files or keys, where they are not a model's.
    """

    name: str
    embeds: dict[str, Float[Tensor, "n d"]]
    ids: Int[Tensor, "n"] | None = None
    logit_scale: float | None = None
    dataset: str | None = None
    rows: tuple[int, ...] | None = None
    available: int | None = None
    given: tuple[str, ...] = ()


# A model's name, a model and its processor, files, tensors by modality, or what one of them became.
Source: TypeAlias = str | Path | tuple[Any, Any] | Sequence[str | Path] | Mapping[str, Any] | EmbeddingSource


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
    if _is_loaded(source):
        model, processor = source
        return _embedded(model, processor, model.config.name_or_path or type(model).__name__, options, ids)
    names = [str(source)] if isinstance(source, str | Path) else [str(name) for name in source]
    if is_model(names):
        model, processor = load_dual_encoder(names[0])
        model = model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return _embedded(model, processor, names[0], options, ids)
    if not any(map(is_embedding_file, names)) and len(names) > 1:
        raise ValueError(f"Give one model, or files of embeddings, but got {names}. A second model goes to `compare`.")
    if options.dataset is not None:
        raise ValueError(f"`dataset` is for a model to embed, but {names} are embeddings already. Leave it out.")
    embeds, found = read_embeddings(names, ids=ids if isinstance(ids, str | Path) else None)
    if ids is not None and not isinstance(ids, str | Path):
        found = _given_ids(ids, embeds)
    name = " + ".join(Path(name).name for name in names)
    return _drawn(EmbeddingSource(name=name, embeds=embeds, ids=found), options)


def is_model(source: Source) -> bool:
    """Whether a source is a model, which embeds a dataset, and not embeddings that are there."""
    if isinstance(source, EmbeddingSource | Mapping):
        return False
    if _is_loaded(source):
        return True
    names = [str(source)] if isinstance(source, str | Path) else [str(name) for name in source]
    return len(names) == 1 and not is_embedding_file(names[0]) and not Path(names[0]).expanduser().is_file()


def _is_loaded(source: Source) -> TypeGuard[tuple[Any, Any]]:
    return isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], str | Path)


def same_rows(own: EmbeddingSource, other: EmbeddingSource) -> tuple[EmbeddingSource, EmbeddingSource]:
    """Two sources of the same rows, with the ids that are known of either; the second's modalities are called as the first's.

    Modalities of other names are taken in the order in which both were given.

    Raises:
        ValueError: They differ in rows, in the number of modalities, or in which rows show the same.
    """
    if len(other.embeds) != len(own.embeds) or other.rows != own.rows:
        told = [
            f"{s.name!r} has {sorted(s.embeds)} of {len(next(iter(s.embeds.values())))} rows" for s in (own, other)
        ]
        raise ValueError(f"`compare` must have as many modalities and the same rows, but {' and '.join(told)}.")
    ours, theirs = (
        [m for m in one.given or one.embeds if m not in two.embeds] for one, two in ((own, other), (other, own))
    )
    renamed = {name: name for name in own.embeds} | dict(zip(ours, theirs, strict=True))
    other = replace(other, embeds={name: other.embeds[renamed[name]] for name in own.embeds})
    if own.ids is None or other.ids is None:
        known = other.ids if own.ids is None else own.ids
        return replace(own, ids=known), replace(other, ids=known)
    # Numbers of ids may differ, but not what they hold together.
    items = {len(torch.unique(ids)) for ids in (own.ids, other.ids)}
    if items != {torch.unique(torch.stack([own.ids, other.ids]), dim=1).shape[1]}:
        raise ValueError(
            f"`compare` must have the same rows, but by the ids of {own.name!r} other rows show the same than by those of "
            f"{other.name!r}."
        )
    return own, other


def _given_ids(ids: Any, embeds: Mapping[str, Tensor]) -> Tensor | None:
    if ids is None:
        return None
    rows = len(next(iter(embeds.values())))
    if len(ids) != rows:
        raise ValueError(f"`ids` must hold one id for each of {rows} rows, but holds {len(ids)}.")
    return as_ids(ids.tolist() if isinstance(ids, Tensor) else list(ids))


def _drawn(source: EmbeddingSource, options: DatasetOptions) -> EmbeddingSource:
    """At most `num_rows` of given rows, in alphabetical order of the modalities."""
    available = len(next(iter(source.embeds.values())))
    rows = draw_rows(available, options.num_rows, options.seed)
    embeds = {m: x[torch.tensor(rows)] for m, x in sorted(source.embeds.items())}
    ids = None if source.ids is None else source.ids[torch.tensor(rows)]
    return replace(source, embeds=embeds, ids=ids, rows=tuple(rows), available=available, given=tuple(source.embeds))


def _embedded(model: Any, processor: Any, name: str, options: DatasetOptions, ids: Any) -> EmbeddingSource:
    if ids is not None:
        raise ValueError("`ids` are those of given embeddings. For a dataset, name its column with `id_column`.")
    examples = open_examples(options, processor)
    rows = draw_rows(len(examples), options.num_rows, options.seed)
    if len(rows) < 2:
        raise ValueError(f"A diagnosis needs two rows or more, but the {examples.name} has {len(rows)}.")
    found = embed_cached(model, processor, examples, rows, options)
    shown = found.pop(IDS, None)
    scale = getattr(model, "logit_scale", None)
    return EmbeddingSource(
        name=name,
        embeds=dict(sorted(found.items())),
        ids=shown,
        logit_scale=None if scale is None else float(scale.detach().float().mean().exp()),
        dataset=examples.name,
        rows=tuple(rows),
        available=len(examples),
    )
