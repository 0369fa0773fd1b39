"""The energy distance of two clouds of embeddings, beside what random deals of the rows show."""

import torch

from hf_contrastive.functional import energy_distance
from hf_contrastive.metrics import embedding_module


class EnergyDistance(embedding_module.EmbeddingModule):
    description = (
        "Energy distance between two clouds of embeddings, zero only for equal distributions, in its unbiased and its "
        "biased form, with the value and the exact deviation that random deals of the rows show."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `energy_distance`: Unbiased (U-statistic); reference: 0 on average where the distributions are equal, so
        sometimes negative; at most 4 for unit rows.
    `energy_distance_null_std`: Its standard deviation over all deals of the rows to the two clouds, exactly.
    `energy_distance_biased`: Biased (V-statistic), never negative: the form of published values.
    `energy_distance_floor`: Mean of the biased value over all such deals.
Examples:
    >>> distance = hf_contrastive.load_metric("energy_distance")
    >>> distance.compute(predictions=[[1.0, 0.0]] * 3, references=[[-1.0, 0.0]] * 3)["energy_distance"]
    4.0
"""
    citation = r"""@article{szekely2013energy,
  title={Energy Statistics: A Class of Statistics Based on Distances},
  author={Sz{\'e}kely, G{\'a}bor J. and Rizzo, Maria L.},
  journal={Journal of Statistical Planning and Inference},
  year={2013}
}
"""
    reference_url = "https://doi.org/10.1016/j.jspi.2013.03.018"

    @staticmethod
    def measure(x: torch.Tensor, y: torch.Tensor, *, normalize: bool = True) -> dict[str, float]:
        distance = energy_distance(x, y, normalize=normalize)
        return embedding_module.floats(
            {
                "energy_distance": distance.unbiased,
                "energy_distance_null_std": distance.null_std,
                "energy_distance_biased": distance.biased,
                "energy_distance_floor": distance.floor,
            }
        )
