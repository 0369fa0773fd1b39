"""The scenes as a dataset on disk: rendered once, written as a whole, loaded at once."""

import hashlib
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from datasets import Dataset, DatasetDict, Features, Image, Value, config
from datasets import List as ListOf
from filelock import FileLock
from tqdm.auto import tqdm

from hf_contrastive.data.scenes.drawing import draw_scene
from hf_contrastive.data.scenes.sampling import BUCKETS, Sample, sample_split
from hf_contrastive.data.scenes.scene import Scene


# Part of the cache's name: raise it with any change to what is generated.
VERSION = 1
DEFAULT_SIZES: Mapping[str, int] = {"train": 12_000, "validation": 1_000, "test": 1_000}
LICENSE = "none of their own: drawn by hf_contrastive, whose code is under Apache-2.0"
FEATURES = Features({"image": Image(), "captions": ListOf(Value("string")), "scene": Value("string")})


def load_scenes(
    cache_dir: str | Path | None = None, *, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> DatasetDict:
    """Load the generated scenes, which are rendered on the first call and read from the cache on every other.

    Args:
        cache_dir: The folder to keep the rendered scenes in; by default one in the cache of `datasets`.
        seed: Another seed gives other scenes, and holds other combinations out of training.
        sizes: The number of scenes in each split; a split that is not named is left out.

    Returns:
        Splits with the columns `image`, `captions` (three texts) and `scene` (the facts, as JSON).

    Raises:
        ValueError: If `sizes` is empty, names an unknown split, or asks for fewer than one scene.
    """
    wanted = _checked(DEFAULT_SIZES if sizes is None else sizes)
    root = Path(config.HF_DATASETS_CACHE if cache_dir is None else cache_dir) / "hf_contrastive_scenes"
    target = root / _fingerprint(seed, wanted)
    if not target.exists():
        _build_once(target, seed, wanted)
    scenes = DatasetDict.load_from_disk(target)
    for rows in scenes.values():
        rows.info.license = LICENSE
    return scenes


def _checked(sizes: Mapping[str, int]) -> dict[str, int]:
    if not sizes:
        raise ValueError(f"sizes={dict(sizes)} has no split; name at least one of {sorted(BUCKETS)}")
    for split, size in sizes.items():
        if split not in BUCKETS:
            raise ValueError(f"sizes has the unknown split {split!r}; allowed are {sorted(BUCKETS)}")
        if size < 1:
            raise ValueError(f"sizes[{split!r}]={size} must be at least 1")
    return {split: sizes[split] for split in BUCKETS if split in sizes}


def _fingerprint(seed: int, sizes: Mapping[str, int]) -> str:
    return hashlib.sha256(f"{VERSION}/{seed}/{dict(sizes)}".encode()).hexdigest()[:16]


def _build_once(target: Path, seed: int, sizes: Mapping[str, int]) -> None:
    """Build the dataset beside its place and move it there when it is whole; other processes wait for the first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.exists():
            return
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        splits = {split: _build_split(split, size, seed) for split, size in sizes.items()}
        DatasetDict(splits).save_to_disk(partial)
        partial.rename(target)


def _build_split(split: str, size: int, seed: int) -> Dataset:
    samples = sample_split(split, size, seed)
    rows = [_row(sample) for sample in tqdm(samples, desc=f"Drawing the {split} scenes", unit="scene")]
    columns = {name: [row[name] for row in rows] for name in FEATURES}
    return Dataset.from_dict(columns, features=FEATURES, split=split)


def _row(sample: Sample) -> dict[str, object]:
    return {
        "image": {"bytes": _png(sample.scene), "path": None},
        "captions": [caption.text for caption in sample.captions],
        "scene": sample.as_json(),
    }


def _png(scene: Scene) -> bytes:
    buffer = BytesIO()
    draw_scene(scene).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
