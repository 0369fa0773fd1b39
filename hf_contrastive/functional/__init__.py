"""Pure tensor functions, each formula once. This package imports torch and nothing else of ours."""

from hf_contrastive.functional.barrier import (
    EffectivePotential,
    GreatCircle,
    effective_potential,
    great_circle,
)
from hf_contrastive.functional.block_estimate import BlockEstimate, block_estimate
from hf_contrastive.functional.centroids import CentroidGap, centroid_gap
from hf_contrastive.functional.concentration import softmax_perplexity
from hf_contrastive.functional.conflict import Conflict, expected_chi, multimodal_conflict
from hf_contrastive.functional.contrastive import info_nce, mean_info_nce, positive_logits
from hf_contrastive.functional.cosine_distribution import ByMatch, cosine_histogram, cosine_quantiles, matched_auc
from hf_contrastive.functional.cosines import (
    CosineMoments,
    CosineStatistics,
    MeanCosines,
    cosine_moments,
    cosine_statistics,
    mean_cosines,
)
from hf_contrastive.functional.debiased import debiased_info_nce
from hf_contrastive.functional.decomposition import (
    CloudDistance,
    PairDistance,
    cloud_distance,
    pair_distance,
    subspace_overlap,
)
from hf_contrastive.functional.decoupled import decoupled_contrastive, von_mises_fisher_weights
from hf_contrastive.functional.divergence import (
    HeldOutDivergence,
    divergence_of_halves,
    log_density_ratio,
    smoothed_divergence,
)
from hf_contrastive.functional.energies import Energies, log_kernel_volume, population_energies
from hf_contrastive.functional.frechet import FrechetDistance, frechet_distance
from hf_contrastive.functional.gaussian import gaussian_kl, sliced_gaussianity
from hf_contrastive.functional.gaussianity import (
    Gaussianity,
    NormVariation,
    anderson_darling,
    dagostino_pearson,
    expected_gaussianity,
    gaussianity,
    norm_variation,
)
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
from hf_contrastive.functional.hubness import (
    Hubness,
    HubnessBins,
    chance_hubness,
    hubness,
    k_occurrences,
    recall_by_hubness,
)
from hf_contrastive.functional.interventions import CloudMap, mean_shift, shift_along_gap, whitening
from hf_contrastive.functional.isotropy import CentroidNorm, MeanCosine, centroid_cosine, centroid_norm, mean_cosine
from hf_contrastive.functional.marchenko_pastur import isotropic_spectrum
from hf_contrastive.functional.mildness import AlignmentBound, alignment_bound
from hf_contrastive.functional.moments import CosinesWithin, Moments
from hf_contrastive.functional.pair_moments import PairMoments
from hf_contrastive.functional.pairs import PairMask
from hf_contrastive.functional.partition import (
    log_partition,
    log_partitions,
    paired_log_partitions,
    self_log_partition,
)
from hf_contrastive.functional.permutation import Control, modality_control, pairing_control
from hf_contrastive.functional.probes import (
    average_ranks,
    class_prototypes,
    class_ranks,
    linear_probe,
    mean_per_class,
    neighbor_scores,
    spearman,
)
from hf_contrastive.functional.quantiles import (
    CoordinateQuantiles,
    Quantiles,
    coordinate_quantiles,
    norm_quantiles,
)
from hf_contrastive.functional.ranks import Ranks
from hf_contrastive.functional.redundancy import barlow_twins, covariance_penalty, cross_correlation, variance_hinge
from hf_contrastive.functional.retrieval import (
    Relevance,
    retrieval_ranks,
    retrieval_relevance,
    two_way_retrieval_ranks,
)
from hf_contrastive.functional.retrieval_chance import RetrievalChance, count_matches
from hf_contrastive.functional.separability import Separability, linear_separability, modality_separability
from hf_contrastive.functional.softplus import sigmoid_loss
from hf_contrastive.functional.spectrum import (
    SpectrumSummary,
    condition_number,
    effective_rank,
    entropy_rank,
    expected_effective_rank,
    iso_score,
    numerical_rank,
    participation_ratio,
    rank_me,
    spectrum,
    summarize_spectrum,
    variance_share,
)
from hf_contrastive.functional.symile import multilinear_inner_product, shifted_products
from hf_contrastive.functional.two_sample import (
    TwoSampleDistance,
    energy_distance,
    maximum_mean_discrepancy,
    median_bandwidth,
)
from hf_contrastive.functional.uniformity_estimate import UniformityEstimate, uniformity_estimate
from hf_contrastive.functional.volume import gram_volume
from hf_contrastive.functional.zero_shot import ClassAccuracy, zero_shot_accuracy


__all__ = [
    "AlignmentBound",
    "BlockEstimate",
    "ByMatch",
    "CentroidGap",
    "CentroidNorm",
    "ClassAccuracy",
    "CloudDistance",
    "CloudMap",
    "Conflict",
    "Control",
    "CoordinateQuantiles",
    "CosineMoments",
    "CosineStatistics",
    "CosinesWithin",
    "EffectivePotential",
    "Energies",
    "FrechetDistance",
    "Gaussianity",
    "GreatCircle",
    "HeldOutDivergence",
    "Hubness",
    "HubnessBins",
    "MeanCosine",
    "MeanCosines",
    "ModalityGap",
    "Moments",
    "NormVariation",
    "PairDistance",
    "PairMask",
    "PairMoments",
    "Quantiles",
    "Ranks",
    "Relevance",
    "RetrievalChance",
    "Separability",
    "SpectrumSummary",
    "TwoSampleDistance",
    "UniformityEstimate",
    "alignment",
    "alignment_bound",
    "anderson_darling",
    "average_ranks",
    "barlow_twins",
    "block_estimate",
    "cauchy_schwarz_divergence",
    "centroid_cosine",
    "centroid_gap",
    "centroid_norm",
    "chance_hubness",
    "class_prototypes",
    "class_ranks",
    "cloud_distance",
    "condition_number",
    "coordinate_quantiles",
    "cosine_histogram",
    "cosine_moments",
    "cosine_quantiles",
    "cosine_statistics",
    "count_matches",
    "covariance_penalty",
    "cross_correlation",
    "dagostino_pearson",
    "debiased_info_nce",
    "decoupled_contrastive",
    "divergence_of_halves",
    "effective_potential",
    "effective_rank",
    "energy_distance",
    "entropy_rank",
    "expected_chi",
    "expected_effective_rank",
    "expected_gaussianity",
    "frechet_distance",
    "gaussian_kl",
    "gaussianity",
    "gram_determinant",
    "gram_volume",
    "great_circle",
    "hoelder_divergence",
    "hubness",
    "info_nce",
    "iso_score",
    "isotropic_spectrum",
    "k_occurrences",
    "linear_probe",
    "linear_separability",
    "log_density_ratio",
    "log_kernel_volume",
    "log_partition",
    "log_partitions",
    "matched_auc",
    "maximum_mean_discrepancy",
    "mean_cosine",
    "mean_cosines",
    "mean_info_nce",
    "mean_per_class",
    "mean_shift",
    "median_bandwidth",
    "modality_control",
    "modality_gap",
    "modality_separability",
    "multilinear_inner_product",
    "multimodal_conflict",
    "neighbor_scores",
    "norm_quantiles",
    "norm_variation",
    "numerical_rank",
    "one_row_per_id",
    "pair_distance",
    "paired_log_partitions",
    "pairing_control",
    "participation_ratio",
    "population_energies",
    "positive_logits",
    "rank_me",
    "recall_by_hubness",
    "retrieval_ranks",
    "retrieval_relevance",
    "self_log_partition",
    "shift_along_gap",
    "shifted_products",
    "sigmoid_loss",
    "sliced_gaussianity",
    "smoothed_divergence",
    "softmax_perplexity",
    "spearman",
    "spectrum",
    "subspace_overlap",
    "summarize_spectrum",
    "sums_of_ids",
    "two_way_retrieval_ranks",
    "uniformity",
    "uniformity_estimate",
    "uniformity_floor",
    "variance_hinge",
    "variance_share",
    "von_mises_fisher_weights",
    "whitening",
    "zero_shot_accuracy",
]
