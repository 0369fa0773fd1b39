"""Cosines of matched pairs beside those of unmatched ones: means, deviations, d' and AUC."""

import torch

from hf_contrastive.functional import cosine_statistics, matched_auc
from hf_contrastive.metrics import embedding_module


class CosineSimilarity(embedding_module.EmbeddingModule):
    description = (
        "Cosines of all matched and of all unmatched pairs of two clouds: mean and deviation of both, their distance "
        "in deviations (d'), and the chance that a matched pair has the higher one (AUC, 0.5 is chance)."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`, unless ids say otherwise.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
    auc (`bool`, *optional*, defaults to `True`): Whether to compute the AUC, which goes over all pairs; the rest
        needs no pairs.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `matched_cosine_mean`: Mean over matched pairs.
    `matched_cosine_std`: Their standard deviation.
    `unmatched_cosine_mean`: Mean over all pairs that do not match: the reference of the first.
    `unmatched_cosine_std`: Their standard deviation.
    `unmatched_cosine_std_uniform`: That of evenly spread rows, 1 / sqrt(width).
    `centroid_inner_product`: Inner product of both centers: what unrelated rows of these clouds have on average, 0
        unless both are cones.
    `d_prime`: Distance of both means in standard deviations; reference: 0 where a match makes no difference.
    `auc`: Chance that a matched pair has a higher cosine than an unmatched one; reference: 0.5.
Examples:
    >>> cosines = hf_contrastive.load_metric("cosine_similarity")
    >>> rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    >>> found = cosines.compute(predictions=rows, references=rows)
    >>> found["matched_cosine_mean"], found["unmatched_cosine_mean"], found["auc"]
    (1.0, 0.0, 1.0)
"""
    citation = """\
@inproceedings{betser2026infonce,
  title={InfoNCE Induces Gaussian Distribution},
  author={Betser, Roy and Gofer, Eyal and Levi, Meir Yossef and Gilboa, Guy},
  booktitle={International Conference on Learning Representations},
  year={2026}
}
"""
    reference_url = "https://huggingface.co/papers/2602.24012"
    optional = embedding_module.IDS

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        prediction_ids: torch.Tensor | None = None,
        reference_ids: torch.Tensor | None = None,
        auc: bool = True,
        normalize: bool = True,
    ) -> dict[str, float]:
        ids = {"x_ids": prediction_ids, "y_ids": reference_ids}
        cosines = cosine_statistics(x, y, **ids, normalize=normalize)
        values = {
            "matched_cosine_mean": cosines.matched_mean,
            "matched_cosine_std": cosines.matched_std,
            "unmatched_cosine_mean": cosines.unmatched_mean,
            "unmatched_cosine_std": cosines.unmatched_std,
            "unmatched_cosine_std_uniform": cosines.uniform_std,
            "centroid_inner_product": cosines.expected_unmatched,
            "d_prime": cosines.d_prime,
        }
        if auc:
            values["auc"] = matched_auc(x, y, **ids, normalize=normalize)
        return embedding_module.floats(values)
