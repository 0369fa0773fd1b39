"""Outputs of frozen towers, computed once, kept on disk and read instead of running the tower."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset, Features, IterableDataset, Value
from datasets.arrow_writer import ArrowWriter
from datasets.fingerprint import Hasher
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PretrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

from hf_contrastive.towers.find import Tower, base_model, find_tower
from hf_contrastive.towers.forwards import evaluation_mode
from hf_contrastive.towers.precomputed import CACHED


# To be raised when files of the present version must not be read by the next.
_VERSION = 1
_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class CachedTowerCollator:
    """
    Data collator that adds the cached outputs of towers to what another collator makes of the other columns.

    Args:
        collator:
            Collator of what is not cached, for instance a [`ContrastiveCollator`] with the text column alone.
        modalities (`tuple[str, ...]`):
            Modalities whose towers are cached, see [`cache_tower_embeddings`].
    """

    collator: Callable[[list[dict[str, Any]]], dict[str, Tensor]]
    modalities: tuple[str, ...]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Model inputs of the examples, tensors with one row per example."""
        columns = [f"{CACHED}{modality}" for modality in self.modalities]
        if missing := sorted(set(columns) - set(examples[0])):
            raise ValueError(f"The collator reads columns {missing}, but the examples have {sorted(examples[0])}.")
        inputs = dict(self.collator([{n: x for n, x in row.items() if n not in columns} for row in examples]))
        return inputs | {c: torch.stack([torch.as_tensor(row[c]) for row in examples]) for c in columns}


def cache_tower_embeddings(
    dataset: Dataset | IterableDataset,
    model: nn.Module,
    modality: str,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    dtype: str = "float32",
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Dataset:
    """
    A dataset with the outputs of one tower in a column `cached_<modality>`.

    Outputs are those that the projection reads (the embedding, where there is none), in evaluation mode, so that a
    projection can still be trained. They are computed once: a file is kept under a fingerprint of the tower's weights
    and configuration, the collator, the dataset and `dtype`, and computed again when any of them differs. A
    [`ContrastiveTrainer`] whose batches have the column leaves the tower out. With several processes, call it inside of
    `args.main_process_first()`, so that one of them computes.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows to embed.
        model ([`~transformers.PreTrainedModel`]):
            Model with the tower. It runs on the device where it is.
        modality (`str`):
            Which tower, as in the model's `<modality>_embeds`.
        collator:
            From rows to inputs of the model. One that reads the column of the modality alone is faster.
        batch_size (`int`, *optional*, defaults to 64):
            Rows to embed at once.
        num_workers (`int`, *optional*, defaults to 0):
            Processes that read rows.
        dtype (`str`, *optional*, defaults to `"float32"`):
            Precision on disk, `"float16"` or `"float32"`.
        cache_dir (`str` or `Path`, *optional*):
            Folder of the files. By default a folder of the cache of `datasets`.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Raises:
        ValueError: The dataset is a stream, is empty or has such a column; the model has no such tower, or one whose
            output is not one row per example.
    """
    column = f"{CACHED}{modality}"
    if not isinstance(dataset, Dataset):
        raise ValueError(f"`dataset` must be a `datasets.Dataset`, whose rows can be counted, got {type(dataset)}.")
    if len(dataset) == 0 or column in dataset.column_names:
        raise ValueError(f"`dataset` must have rows and no column {column!r}: {len(dataset)}, {dataset.column_names}.")
    if dtype not in _DTYPES:
        raise ValueError(f"`dtype` must be one of {_DTYPES}, but got {dtype!r}.")
    tower = find_tower(model, modality, "modality")
    folder = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_contrastive_towers")
    file = folder / f"{modality}-{fingerprint(dataset, tower, collator, dtype)}.arrow"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        loader = DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=collator)
        bar = tqdm(loader, desc=f"Embedding with the {modality} tower", disable=not progress)
        _write(file, column, dtype, _outputs(model, tower, bar), len(dataset))
    cached = Dataset.from_file(str(file))
    return _with_column(dataset, cached, column)


def fingerprint(dataset: Dataset, tower: Tower, collator: Any, dtype: str) -> str:
    """What a cached output depends on, as 32 hexadecimal digits."""
    rest = [tower.modality, dtype, dataset._fingerprint, describe_collator(collator)]
    return module_fingerprint(tower.encoder, rest)


def module_fingerprint(module: nn.Module, rest: Any) -> str:
    """A module's weights and configuration, and what else an output of it depends on, as 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    config = getattr(module, "config", None)
    settings = config.to_diff_dict() if isinstance(config, PretrainedConfig) else repr(module)
    digest.update(json.dumps([_VERSION, settings, rest], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def describe_collator(value: Any) -> Any:
    """What a collator or processor does, the same in every run: use must not change it, as it does a tokenizer's state."""
    if isinstance(value, PreTrainedTokenizerBase):
        state = json.loads(value.backend_tokenizer.to_str()) if value.is_fast else value.get_vocab()
        # Set anew at each call.
        kept = {name: part for name, part in state.items() if name not in ("padding", "truncation")}
        return [type(value).__name__, kept, value.padding_side, value.truncation_side, value.model_max_length]
    if isinstance(value, Mapping):
        return {str(name): describe_collator(part) for name, part in value.items()}
    if isinstance(value, ProcessorMixin):
        return [type(value).__name__, *(describe_collator(getattr(value, name)) for name in value.get_attributes())]
    if hasattr(value, "to_dict"):
        return [type(value).__name__, value.to_dict()]
    if is_dataclass(value):
        parts = {field.name: describe_collator(getattr(value, field.name)) for field in fields(value)}
        return [type(value).__name__, parts]
    return Hasher.hash(value)


def _outputs(model: nn.Module, tower: Tower, batches: Any) -> Iterator[Tensor]:
    """Pooled outputs of a tower for each batch, on the CPU. The model's mode is as before in the end."""
    device = next(tower.encoder.parameters()).device
    with evaluation_mode(model):
        for inputs in batches:
            tensors = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in inputs.items()}
            with torch.no_grad():
                pooled = _pooled(base_model(model), tower, tensors)
            num_rows = len(next(x for x in tensors.values() if isinstance(x, Tensor)))
            if pooled.dim() != 2 or len(pooled) != num_rows:
                raise ValueError(
                    f"The {tower.modality} tower must give one vector per example to be cached, but gives a tensor of "
                    f"shape {list(pooled.shape)} for {num_rows} examples."
                )
            yield pooled.float().cpu()


def _pooled(model: nn.Module, tower: Tower, inputs: dict[str, Any]) -> Tensor:
    """What the projection of a tower reads, or what the tower returns where there is none."""
    read: list[Tensor] = []
    run = getattr(model, f"get_{tower.modality}_features", tower.encoder)
    forward = run.forward if isinstance(run, nn.Module) else run
    known = inspect.signature(forward).parameters
    chosen = {name: x for name, x in inputs.items() if name in known}
    if not chosen:
        raise ValueError(f"The {tower.modality} tower reads {list(known)}, but the collator makes {sorted(inputs)}.")
    if tower.projection is None or run is tower.encoder:
        output = run(**chosen)
        return output if isinstance(output, Tensor) else output.pooler_output
    hook = tower.projection.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        run(**chosen)
    finally:
        hook.remove()
    return read[0]


def _write(file: Path, column: str, dtype: str, outputs: Iterator[Tensor], num_rows: int) -> None:
    """Write outputs to a file that is whole or not there."""
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        first = next(outputs)
        features = Features({column: datasets.List(Value(dtype), length=first.shape[1])})
        with ArrowWriter(features=features, path=str(part)) as writer:
            written = 0
            for rows in chain([first], outputs):
                writer.write_batch({column: rows.numpy().astype(dtype)})
                written += len(rows)
            writer.finalize()
        if written != num_rows:
            raise ValueError(
                f"The collator made {written} rows of the {num_rows} of the dataset: it must keep them all."
            )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _with_column(dataset: Dataset, cached: Dataset, column: str) -> Dataset:
    """The dataset with one more column, in arrays where its rows are plain Python."""
    form = dataset.format
    joined = datasets.concatenate_datasets([dataset.with_format(None), cached], axis=1)
    whole = set(form["columns"]) == set(dataset.column_names)
    if form["type"] is None:
        return joined.with_format("numpy", columns=[column], output_all_columns=True)
    columns = None if whole else [*form["columns"], column]
    return joined.with_format(
        form["type"], columns=columns, output_all_columns=form["output_all_columns"], **form["format_kwargs"]
    )
