"""From datasets to model inputs."""

from hf_contrastive.data.collator import ContrastiveCollator
from hf_contrastive.data.example_stream import ExampleStream
from hf_contrastive.data.examples import ExampleDataset
from hf_contrastive.data.loading import ExampleSplits, PairSplits, load_examples, load_pairs
from hf_contrastive.data.mixed_stream import MixedStream
from hf_contrastive.data.mixing import MixedDataset, mix_datasets
from hf_contrastive.data.modalities import Modality
from hf_contrastive.data.pair_stream import PairStream
from hf_contrastive.data.pairs import PairDataset
from hf_contrastive.data.scenes import load_scenes
from hf_contrastive.data.shuffling import shuffle_stream


__all__ = [
    "ContrastiveCollator",
    "ExampleDataset",
    "ExampleSplits",
    "ExampleStream",
    "MixedDataset",
    "MixedStream",
    "Modality",
    "PairDataset",
    "PairSplits",
    "PairStream",
    "load_examples",
    "load_pairs",
    "load_scenes",
    "mix_datasets",
    "shuffle_stream",
]
