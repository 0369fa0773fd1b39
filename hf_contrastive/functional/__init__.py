"""Pure tensor functions, each formula once. This package imports torch and nothing else of ours."""

from hf_contrastive.functional.contrastive import info_nce, mean_info_nce, positive_logits
from hf_contrastive.functional.debiased import debiased_info_nce
from hf_contrastive.functional.decoupled import decoupled_contrastive, von_mises_fisher_weights
from hf_contrastive.functional.divergence import log_density_ratio, smoothed_divergence
from hf_contrastive.functional.gaussian import gaussian_kl, sliced_gaussianity
from hf_contrastive.functional.geometry import (
    ModalityGap,
    alignment,
    gram_determinant,
    modality_gap,
    uniformity,
    uniformity_floor,
)
from hf_contrastive.functional.groups import one_row_per_id, sums_of_ids
from hf_contrastive.functional.hoelder import cauchy_schwarz_divergence, hoelder_divergence
from hf_contrastive.functional.moments import CosineMoments, Moments
from hf_contrastive.functional.pair_moments import PairMoments
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.partition import (
    log_partition,
    log_partitions,
    paired_log_partitions,
    self_log_partition,
)
from hf_contrastive.functional.probes import (
    average_ranks,
    class_prototypes,
    class_ranks,
    linear_probe,
    mean_per_class,
    neighbor_scores,
    spearman,
)
from hf_contrastive.functional.ranks import Ranks
from hf_contrastive.functional.redundancy import barlow_twins, covariance_penalty, cross_correlation, variance_hinge
from hf_contrastive.functional.retrieval import (
    Relevance,
    retrieval_ranks,
    retrieval_relevance,
    two_way_retrieval_ranks,
)
from hf_contrastive.functional.separability import linear_separability
from hf_contrastive.functional.softplus import sigmoid_loss
from hf_contrastive.functional.spectrum import effective_rank, spectrum
from hf_contrastive.functional.symile import multilinear_inner_product, shifted_products
from hf_contrastive.functional.uniformity_estimate import UniformityEstimate, uniformity_estimate
from hf_contrastive.functional.volume import gram_volume


__all__ = [
    "CosineMoments",
    "ModalityGap",
    "Moments",
    "PairMask",
    "PairMoments",
    "Ranks",
    "Relevance",
    "UniformityEstimate",
    "alignment",
    "average_ranks",
    "barlow_twins",
    "cauchy_schwarz_divergence",
    "class_prototypes",
    "class_ranks",
    "covariance_penalty",
    "cross_correlation",
    "debiased_info_nce",
    "decoupled_contrastive",
    "effective_rank",
    "gaussian_kl",
    "gram_determinant",
    "gram_volume",
    "hoelder_divergence",
    "info_nce",
    "linear_probe",
    "linear_separability",
    "log_density_ratio",
    "log_partition",
    "log_partitions",
    "mean_info_nce",
    "mean_per_class",
    "modality_gap",
    "multilinear_inner_product",
    "neighbor_scores",
    "one_row_per_id",
    "paired_log_partitions",
    "positive_logits",
    "retrieval_ranks",
    "retrieval_relevance",
    "self_log_partition",
    "shifted_products",
    "sigmoid_loss",
    "sliced_gaussianity",
    "smoothed_divergence",
    "spearman",
    "spectrum",
    "sums_of_ids",
    "two_way_retrieval_ranks",
    "uniformity",
    "uniformity_estimate",
    "uniformity_floor",
    "variance_hinge",
    "von_mises_fisher_weights",
]
