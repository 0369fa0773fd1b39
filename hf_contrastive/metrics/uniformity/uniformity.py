"""How evenly the embeddings of one modality cover the sphere, beside the most even there is."""

import torch

from hf_contrastive.functional import uniformity, uniformity_floor
from hf_contrastive.metrics import embedding_module


class Uniformity(embedding_module.EmbeddingModule):
    description = (
        "Log of the mean Gaussian potential between embeddings of one modality: zero when they have collapsed to a "
        "point, lower the more evenly they cover the sphere, with the lowest value that their width allows."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width), at least two rows.
    t (`float`, *optional*, defaults to `2.0`): Sharpness of the potential, half an inverse temperature of InfoNCE.
        Values of different `t` do not compare.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `uniformity`: The log mean potential, at most 0 (collapsed); lower is more even.
    `uniformity_floor`: The value of a perfectly even cloud of this width.
    `uniformity_ratio`: The first divided by the second: 0 collapsed, 1 perfectly even.
Examples:
    >>> hf_contrastive.load_metric("uniformity").compute(predictions=[[1.0, 0.0], [1.0, 0.0]])["uniformity"]
    0.0
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
    inputs = ("predictions",)

    @staticmethod
    def measure(x: torch.Tensor, *, t: float = 2.0, normalize: bool = True) -> dict[str, float]:
        value, floor = uniformity(x, t=t, normalize=normalize), uniformity_floor(x.shape[1], t=t)
        return embedding_module.floats(
            {"uniformity": value, "uniformity_floor": floor, "uniformity_ratio": value / floor}
        )
