"""The squared gap between centers without its bias, and its share of the variance of all rows."""

import torch

from hf_contrastive.functional import centroid_gap
from hf_contrastive.metrics import embedding_module


class CentroidGap(embedding_module.EmbeddingModule):
    description = (
        "Squared distance between the centers of two clouds, without what sampling adds to it, with its exact "
        "deviation over random deals of the rows; lengths of the centers, their cosine, and the share of variance "
        "between the clouds."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `centroid_gap_squared`: Unbiased squared distance of the centers; reference: 0 on average where there is no gap,
        so sometimes negative.
    `centroid_gap_null_std`: Its standard deviation when all rows are dealt to the two clouds at random, exactly.
    `centroid_norm_predictions`: Length of the first center: 0 around the origin, 1 for one point.
    `centroid_norm_predictions_floor`: Length that sampling alone gives it.
    `centroid_norm_references`: Length of the second center.
    `centroid_norm_references_floor`: Length that sampling alone gives it.
    `centroid_cosine`: Cosine between the centers; tells little where their lengths are at the floor.
    `gap_variance_share`: Share of the variance of all rows that lies between the clouds, 0 to 1.
    `gap_variance_share_floor`: Its mean over random deals of the rows.
Examples:
    >>> gap = hf_contrastive.load_metric("centroid_gap")
    >>> gap.compute(predictions=[[1.0, 0.0], [-1.0, 0.0]], references=[[0.0, 1.0], [0.0, -1.0]])["centroid_gap_squared"]
    -2.0
"""
    citation = """\
@inproceedings{liang2022mind,
  title={Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation Learning},
  author={Liang, Weixin and Zhang, Yuhui and Kwon, Yongchan and Yeung, Serena and Zou, James},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}
"""
    reference_url = "https://huggingface.co/papers/2203.02053"

    @staticmethod
    def measure(x: torch.Tensor, y: torch.Tensor, *, normalize: bool = True) -> dict[str, float]:
        gap = centroid_gap(x, y, normalize=normalize)
        return embedding_module.floats(
            {
                "centroid_gap_squared": gap.squared,
                "centroid_gap_null_std": gap.null_std,
                "centroid_norm_predictions": gap.norm_x,
                "centroid_norm_predictions_floor": gap.norm_floor_x,
                "centroid_norm_references": gap.norm_y,
                "centroid_norm_references_floor": gap.norm_floor_y,
                "centroid_cosine": gap.cosine,
                "gap_variance_share": gap.share,
                "gap_variance_share_floor": gap.share_floor,
            }
        )
