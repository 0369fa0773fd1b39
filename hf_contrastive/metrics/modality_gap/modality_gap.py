"""How far the centers of two clouds of embeddings sit apart, beside what sampling alone makes."""

import torch

from hf_contrastive.functional import modality_gap
from hf_contrastive.metrics import embedding_module


class ModalityGap(embedding_module.EmbeddingModule):
    description = (
        "Distance between the centers of two clouds of embeddings, with the distance that two samples of one "
        "distribution would show, and the ratio of both: about 1 when there is no gap."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `modality_gap`: Distance of the centers, between 0 and 2 for unit rows.
    `modality_gap_floor`: The distance that two independent samples of one distribution would show on average.
    `modality_gap_ratio`: The first divided by the second; about 1 when there is no gap.
Examples:
    >>> gap = hf_contrastive.load_metric("modality_gap")
    >>> gap.compute(predictions=[[1.0, 0.0], [0.0, 1.0]], references=[[-1.0, 0.0], [0.0, -1.0]])["modality_gap"]
    1.4142135623730951
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
        gap, floor = modality_gap(x, y, normalize=normalize)
        ratio = gap / floor if floor > 0 else torch.inf
        return embedding_module.floats({"modality_gap": gap, "modality_gap_floor": floor, "modality_gap_ratio": ratio})
