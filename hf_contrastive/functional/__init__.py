"""Pure tensor functions, each formula once. This package imports torch and nothing else of ours."""

from hf_contrastive.functional.contrastive import info_nce, positive_logits, sigmoid_loss
from hf_contrastive.functional.divergence import log_density_ratio, smoothed_divergence
from hf_contrastive.functional.geometry import (
    ModalityGap,
    alignment,
    gram_determinant,
    modality_gap,
    uniformity,
    uniformity_floor,
)
from hf_contrastive.functional.partition import log_partition, map_rows
from hf_contrastive.functional.retrieval import Ranks, retrieval_ranks
from hf_contrastive.functional.separability import linear_separability
from hf_contrastive.functional.spectrum import effective_rank, spectrum


__all__ = [
    "ModalityGap",
    "Ranks",
    "alignment",
    "effective_rank",
    "gram_determinant",
    "info_nce",
    "linear_separability",
    "log_density_ratio",
    "log_partition",
    "map_rows",
    "modality_gap",
    "positive_logits",
    "retrieval_ranks",
    "sigmoid_loss",
    "smoothed_divergence",
    "spectrum",
    "uniformity",
    "uniformity_floor",
]
