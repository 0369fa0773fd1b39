"""The squared maximum mean discrepancy of two clouds, beside what random deals of the rows show."""

import torch

from hf_contrastive.functional import maximum_mean_discrepancy, median_bandwidth
from hf_contrastive.metrics import embedding_module


class MaximumMeanDiscrepancy(embedding_module.EmbeddingModule):
    description = (
        "Squared maximum mean discrepancy (MMD) of two clouds of embeddings with a Gaussian kernel, zero only for "
        "equal distributions, with the value and the exact deviation that random deals of the rows show."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    bandwidth (`float`, *optional*): Deviation of the kernel. By default the median distance between rows of both
        clouds that differ (of up to 2,000 evenly spaced ones); give one when models are compared.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `mmd`: Unbiased squared discrepancy; reference: 0 on average where the distributions are equal, so sometimes
        negative; at most 2.
    `mmd_null_std`: Its standard deviation over all deals of the rows to the two clouds, exactly.
    `mmd_biased`: Biased form, never negative.
    `mmd_floor`: Mean of the biased value over all such deals.
    `mmd_bandwidth`: The bandwidth that was used.
Examples:
    >>> mmd = hf_contrastive.load_metric("maximum_mean_discrepancy")
    >>> found = mmd.compute(predictions=[[1.0, 0.0]] * 3, references=[[-1.0, 0.0]] * 3, bandwidth=1.0)
    >>> round(found["mmd"], 4)
    1.7293
"""
    citation = r"""@article{gretton2012kernel,
  title={A Kernel Two-Sample Test},
  author={Gretton, Arthur and Borgwardt, Karsten M. and Rasch, Malte J. and Sch{\"o}lkopf, Bernhard and Smola, Alexander},
  journal={Journal of Machine Learning Research},
  year={2012}
}
"""
    reference_url = "https://jmlr.org/papers/v13/gretton12a.html"

    @staticmethod
    def measure(
        x: torch.Tensor, y: torch.Tensor, *, bandwidth: float | None = None, normalize: bool = True
    ) -> dict[str, float]:
        bandwidth = median_bandwidth(x, y, normalize=normalize) if bandwidth is None else bandwidth
        distance = maximum_mean_discrepancy(x, y, bandwidth=bandwidth, normalize=normalize)
        return embedding_module.floats(
            {
                "mmd": distance.unbiased,
                "mmd_null_std": distance.null_std,
                "mmd_biased": distance.biased,
                "mmd_floor": distance.floor,
                "mmd_bandwidth": bandwidth,
            }
        )
