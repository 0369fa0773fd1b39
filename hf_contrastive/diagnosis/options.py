"""Which rows of a dataset are diagnosed, and how they are embedded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


# Rows that are embedded unless told otherwise: the usual test pool of COCO.
NUM_ROWS = 5000


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """
    Which rows a model embeds, and how.

    Args:
        dataset (`str`, [`~datasets.Dataset`] or [`ExampleDataset`], *optional*):
            What [`load_pairs`] loads, or data that is there. By default the scenes that come with this package.
        config (`str`, *optional*):
            Configuration of the dataset.
        data_dir (`str`, *optional*):
            Folder for a loader such as `imagefolder`.
        where (`str`, *optional*):
            Embed only the rows where this boolean column is true.
        split (`str`, *optional*):
            Split to embed. By default `test`, `validation`, or the rows that training with this package holds out.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of images.
        text_column (`str`, *optional*):
            Column of texts. By default the first of the usual names, such as `caption`. Of a list, the first is taken.
        columns (`dict[str, str]`, *optional*):
            Column of each modality, for models of others than images and texts. By default the one of its name.
        all_captions (`bool`, *optional*, defaults to `False`):
            Whether to take every text of a list, in a row of its own: an image is then one candidate with several matches,
            the protocol of Flickr8k and COCO.
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
    data_dir: str | None = None
    where: str | None = None
    split: str | None = None
    image_column: str = "image"
    text_column: str | None = None
    columns: Mapping[str, str] | None = None
    all_captions: bool = False
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
