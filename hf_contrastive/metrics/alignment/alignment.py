"""How close matching embeddings are: the mean of their distance to a power."""

import torch

from hf_contrastive.functional import alignment
from hf_contrastive.functional.matches import Matches
from hf_contrastive.metrics import embedding_module


class Alignment(embedding_module.EmbeddingModule):
    description = (
        "Mean distance between matching embeddings, to a power. Zero when every pair coincides; unrelated unit rows "
        "give 2 with the default power of 2."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`, unless ids say otherwise.
    alpha (`float`, *optional*, defaults to `2.0`): Power of the distance.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
Returns:
    `alignment`: Mean distance to the power `alpha`. With `alpha=2` and unit rows it is 2 - 2 cos: 0 for equal pairs,
        at most 4; reference: 2 for unrelated centered clouds.
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
    optional = embedding_module.IDS

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        prediction_ids: torch.Tensor | None = None,
        reference_ids: torch.Tensor | None = None,
        alpha: float = 2.0,
        normalize: bool = True,
    ) -> dict[str, float]:
        if prediction_ids is not None:
            matches = Matches(x, y, prediction_ids, reference_ids, normalize=normalize)
            x, y, normalize = matches.x[matches.rows], matches.y[matches.columns], False
        return embedding_module.floats({"alignment": alignment(x, y, alpha=alpha, normalize=normalize)})
