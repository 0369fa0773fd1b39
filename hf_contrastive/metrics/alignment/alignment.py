"""Alignment: how close matching embeddings of two modalities are."""

import torch

from hf_contrastive.functional import alignment
from hf_contrastive.metrics import embedding_module


class Alignment(embedding_module.EmbeddingModule):
    description = (
        "Mean distance between matching embeddings, to a power. Zero when every pair coincides; unrelated unit rows "
        "give 2 with the default power of 2."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`.
    alpha (`float`, *optional*, defaults to `2.0`): Power of the distance.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `alignment`: Mean distance to the power `alpha`; between 0 and 4 for unit rows and `alpha=2`.
Examples:
    >>> hf_contrastive.load_metric("alignment").compute(predictions=[[1.0, 0.0]], references=[[0.0, 1.0]])
    {'alignment': 2.0}
"""
    citation = """\
@inproceedings{wang2020understanding,
  title={Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere},
  author={Wang, Tongzhou and Isola, Phillip},
  booktitle={International Conference on Machine Learning},
  year={2020}
}
"""
    reference_url = "https://huggingface.co/papers/2005.10242"

    def measure(
        self, x: torch.Tensor, y: torch.Tensor, *, alpha: float = 2.0, normalize: bool = True
    ) -> dict[str, float]:
        return embedding_module.floats({"alignment": alignment(x, y, alpha=alpha, normalize=normalize)})
