"""Whether a cloud points somewhere: mean cosine and centroid norm, beside those of even clouds."""

import torch

from hf_contrastive.functional import centroid_norm, mean_cosine
from hf_contrastive.metrics import embedding_module


class Isotropy(embedding_module.EmbeddingModule):
    description = (
        "Mean cosine of two embeddings of one modality and length of their center, exactly over all pairs, beside "
        "what as many evenly spread rows would show: a cone shows in both."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width), at least two rows.
Returns:
    `mean_cosine`: Mean cosine of two distinct rows, 1 when collapsed; reference: 0 of evenly spread rows.
    `mean_cosine_deviation`: Standard deviation of it that as many evenly spread rows would show.
    `mean_row_norm`: Length of the mean unit row, from 0 to 1 (collapsed).
    `mean_row_norm_floor`: Length that sampling alone would give it if the distribution's center were the origin.
Examples:
    >>> isotropy = hf_contrastive.load_metric("isotropy")
    >>> isotropy.compute(predictions=[[1.0, 0.0], [0.0, 3.0]])["mean_cosine"]
    0.0
"""
    citation = """\
@inproceedings{ethayarajh2019contextual,
  title={How Contextual are Contextualized Word Representations?},
  author={Ethayarajh, Kawin},
  booktitle={Empirical Methods in Natural Language Processing},
  year={2019}
}
"""
    reference_url = "https://huggingface.co/papers/1909.00512"
    inputs = ("predictions",)

    @staticmethod
    def measure(x: torch.Tensor) -> dict[str, float]:
        cosine, center = mean_cosine(x), centroid_norm(x)
        return embedding_module.floats(
            {
                "mean_cosine": cosine.cosine,
                "mean_cosine_deviation": cosine.deviation,
                "mean_row_norm": center.norm,
                "mean_row_norm_floor": center.floor,
            }
        )
