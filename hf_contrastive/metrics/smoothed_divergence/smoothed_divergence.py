"""The smoothed symmetric divergence of two clouds, beside that of two halves of one cloud."""

import torch

from hf_contrastive.functional import divergence_of_halves
from hf_contrastive.metrics import embedding_module


class SmoothedDivergence(embedding_module.EmbeddingModule):
    description = (
        "Smoothed symmetric divergence between two clouds of embeddings (half the sum of both Kullback-Leibler "
        "divergences of kernel densities), between half of the items in one modality and the other half in the other, "
        "beside that of two halves of one cloud."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width), at least four rows.
    references: Embeddings of the other, shape (m, width); n and m may differ.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
    temperature (`float`, *optional*, defaults to `0.1`): Width of the kernel; values of different ones do not
        compare.
    seed (`int`, *optional*, defaults to `0`): Seed of the halves.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `smoothed_divergence`: Mean of both sides, in nats; grows without bound as the clouds part.
    `smoothed_divergence_floor`: The same between two halves of one cloud: what sampling alone makes of it.
    `smoothed_divergence_predictions`: The side of `predictions`: large where they lie in places that `references`
        leave empty.
    `smoothed_divergence_references`: The side of `references`.
Examples:
    >>> divergence = hf_contrastive.load_metric("smoothed_divergence")
    >>> x, y = [[1.0, 0.0]] * 8, [[-1.0, 0.0]] * 8
    >>> round(divergence.compute(predictions=x, references=y)["smoothed_divergence"], 3)
    20.0
"""
    citation = """\
@inproceedings{cai2026geometric,
  title={The Geometric Mechanics of Contrastive Representation Learning: Alignment Potentials, Entropic Dispersion,
    and Cross-Modal Divergence},
  author={Cai, Yichao and Zhang, Zhen and Liu, Yuhang and Shi, Javen Qinfeng},
  booktitle={International Conference on Machine Learning},
  year={2026}
}
"""
    reference_url = "https://huggingface.co/papers/2601.19597"
    optional = embedding_module.IDS

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        prediction_ids: torch.Tensor | None = None,
        reference_ids: torch.Tensor | None = None,
        temperature: float = 0.1,
        seed: int = 0,
        normalize: bool = True,
    ) -> dict[str, float]:
        ids = {"x_ids": prediction_ids, "y_ids": reference_ids}
        halves = divergence_of_halves(x, y, **ids, temperature=temperature, seed=seed, normalize=normalize)
        return embedding_module.floats(
            {
                "smoothed_divergence": halves.divergence,
                "smoothed_divergence_floor": halves.floor,
                "smoothed_divergence_predictions": halves.x_from_y,
                "smoothed_divergence_references": halves.y_from_x,
            }
        )
