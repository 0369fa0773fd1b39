"""From datasets to model inputs."""

from hf_contrastive.data.collator import ContrastiveCollator
from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.loading import PairSplits, load_pairs
from hf_contrastive.data.modalities import Modality
from hf_contrastive.data.pairs import PairDataset
from hf_contrastive.data.scenes import load_scenes


__all__ = [
    "ContrastiveCollator",
    "ExampleDataset",
    "Modality",
    "PairDataset",
    "PairSplits",
    "load_pairs",
    "load_scenes",
]
