"""The squared Fréchet distance of two clouds, beside what sampling alone makes of it."""

import torch

from hf_contrastive.functional import frechet_distance
from hf_contrastive.metrics import embedding_module


class FrechetDistance(embedding_module.EmbeddingModule):
    description = (
        "Squared Fréchet distance between Gaussian fits of two clouds of embeddings (what FID computes), its parts "
        "between means and between covariances, and the value that two samples of one distribution, as large as "
        "these, would show."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    seed (`int`, *optional*, defaults to `0`): Seed of the deal that gives the floor.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `frechet_distance`: The squared distance, at most 4 for unit rows.
    `frechet_distance_means`: The part between the means: the squared gap.
    `frechet_distance_covariances`: The part between the covariances.
    `frechet_distance_floor`: The value of two such samples of one distribution: the bias of the estimate.
Examples:
    >>> distance = hf_contrastive.load_metric("frechet_distance")
    >>> x, y = [[1.0, 0.0], [-1.0, 0.0]], [[3.0, 0.0], [-3.0, 0.0]]
    >>> round(distance.compute(predictions=x, references=y, normalize=False)["frechet_distance"], 6)
    8.0
"""
    citation = """\
@inproceedings{heusel2017gans,
  title={GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium},
  author={Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and Hochreiter, Sepp},
  booktitle={Advances in Neural Information Processing Systems},
  year={2017}
}
"""
    reference_url = "https://huggingface.co/papers/1706.08500"

    @staticmethod
    def measure(x: torch.Tensor, y: torch.Tensor, *, seed: int = 0, normalize: bool = True) -> dict[str, float]:
        distance = frechet_distance(x, y, seed=seed, normalize=normalize)
        return embedding_module.floats(
            {
                "frechet_distance": distance.squared,
                "frechet_distance_means": distance.between_means,
                "frechet_distance_covariances": distance.between_covariances,
                "frechet_distance_floor": distance.floor,
            }
        )
