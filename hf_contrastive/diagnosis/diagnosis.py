"""The diagnosis of a set of embeddings: measures, what parts the modalities, what can be done, and plain sentences."""

from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hf_contrastive.diagnosis.arrays import compose, cosine_histogram, project
from hf_contrastive.diagnosis.findings import find, modality_facts
from hf_contrastive.diagnosis.interventions import split_items, try_interventions
from hf_contrastive.diagnosis.options import DatasetOptions
from hf_contrastive.diagnosis.result import Diagnosis, PairDiagnosis
from hf_contrastive.diagnosis.sources import EmbeddingSource, Source, is_model, open_source, same_rows
from hf_contrastive.functional import spectrum
from hf_contrastive.functional.checks import as_embeddings
from hf_contrastive.metrics import geometry_report, retrieval_report


def diagnose(
    source: Source,
    dataset: Any = None,
    *,
    compare: Source | None = None,
    ids: Any = None,
    seed: int = 0,
    **options: Any,
) -> Diagnosis:
    """
    Measure the geometry of a model's embeddings, find what parts its modalities, and try what can be done about it.

    Example:
    ```python
    diagnosis = diagnose("openai/clip-vit-base-patch32", "your-org/captioned-images", compare="your-name/your-encoder")
    for finding in diagnosis.findings:
        print(finding.severity, finding.says, finding.advice)
    ```

    Args:
        source (`str`, `tuple`, `list[str]` or `dict[str, Tensor]`):
            A dual encoder (Hub id or folder) or a pair of model and processor; one or several files of embeddings
            (`.npy`, `.npz`, `.safetensors`, `.parquet`); or embeddings by modality, row i of each the same example.
        dataset (`str`, [`~datasets.Dataset`] or [`ExampleDataset`], *optional*):
            What a model embeds: anything that [`load_pairs`] loads. By default the scenes that come with this package.
        compare (*optional*):
            Another source, to be measured on the same rows.
        ids (`Tensor`, `list` or `str`, *optional*):
            What each row of given embeddings shows, or a file of it.
        seed (`int`, *optional*, defaults to 0):
            Seed of all that is drawn.
        options:
            Fields of [`DatasetOptions`]: `split`, `num_rows`, `image_column`, `text_column`, `id_column`, ...

    Returns:
        [`Diagnosis`]: All numbers and arrays; that of `compare` as `compared`.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A source cannot be used, or both have different rows.
    """
    known = {field.name for field in fields(DatasetOptions)}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"`diagnose` has no option {', '.join(unknown)}. Its options: {', '.join(sorted(known))}.")
    chosen = DatasetOptions(dataset=dataset, seed=seed, **options)
    # Data are for models and ids for files: of two sources, each takes its own.
    models = [is_model(given) for given in (source, compare) if given is not None]
    own, *others = [
        open_source(
            given,
            replace(chosen, dataset=None) if any(models) and not model else chosen,
            ids=None if model and not all(models) else ids,
        )
        for given, model in zip((source, compare), models, strict=False)
        if given is not None
    ]
    # Before anything is measured: what cannot be compared should fail at once.
    own, other = same_rows(own, others[0]) if others else (own, None)
    found = diagnose_embeddings(own, seed=seed, progress=chosen.progress)
    if other is None:
        return found
    return replace(found, compared=diagnose_embeddings(other, seed=seed, progress=chosen.progress))


def diagnose_embeddings(source: EmbeddingSource, *, seed: int = 0, progress: bool = False) -> Diagnosis:
    """The diagnosis of embeddings that are there.

    Raises:
        ValueError: There are too few rows to fit interventions on one half and measure them on the other.
    """
    embeds, ids = source.embeds, source.ids
    rows, width = next(iter(embeds.values())).shape
    if width < 2:
        raise ValueError(f"A diagnosis needs embeddings of two columns or more, but {source.name!r} has one.")
    items = rows if ids is None else len(torch.unique(ids))
    halves = split_items(rows, ids, seed)
    metrics = geometry_report(embeds, ids=ids, separability=True) | retrieval_report(embeds, ids=ids, detailed=True)
    pairs = tuple(
        _pair(source, *names, halves=halves, seed=seed, progress=progress) for names in combinations(embeds, 2)
    )
    modalities = [
        modality_facts(
            metrics,
            m,
            rows=rows,
            width=width,
            center_share=float(as_embeddings(x, m).mean(dim=0).square().sum()),
            copies=1 - len(torch.unique(x, dim=0)) / rows,
            has_ids=ids is not None,
        )
        for m, x in embeds.items()
    ]
    return Diagnosis(
        name=source.name,
        dataset=source.dataset,
        rows=rows,
        items=items,
        width=width,
        modalities=tuple(embeds),
        seed=seed,
        logit_scale=source.logit_scale,
        metrics=metrics,
        pairs=pairs,
        spectra={m: tuple(spectrum(x).tolist()) for m, x in embeds.items()},
        projection=project(embeds, seed=seed),
        findings=find(metrics, pairs, modalities, items=items),
        embeds=dict(embeds),
        ids=ids,
        available=source.available,
    )


def _pair(
    source: EmbeddingSource,
    first: str,
    second: str,
    *,
    halves: tuple[Int[Tensor, "a"], Int[Tensor, "b"]],
    seed: int,
    progress: bool,
) -> PairDiagnosis:
    x, y = source.embeds[first], source.embeds[second]
    return PairDiagnosis(
        first=first,
        second=second,
        composition=compose(x, y, (first, second), halves),
        trials=try_interventions(
            {first: x, second: y}, ids=source.ids, logit_scale=source.logit_scale, seed=seed, progress=progress
        ),
        cosines=cosine_histogram(x, y, ids=source.ids, seed=seed),
    )
