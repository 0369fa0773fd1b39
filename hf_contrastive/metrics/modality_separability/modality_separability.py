"""How well a linear rule tells two modalities apart, on items that it has not seen."""

import torch

from hf_contrastive.functional import modality_separability
from hf_contrastive.metrics import embedding_module


class ModalitySeparability(embedding_module.EmbeddingModule):
    description = (
        "Cross-validated accuracy of a linear classifier that names the modality of an embedding: 0.5 is chance, 1 a "
        "full gap. All rows of an item are held out together."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
    folds (`int`, *optional*, defaults to `5`): Parts that the items are split into, each held out once.
    ridge (`float`, *optional*, defaults to `0.001`): Regularization, as a share of the mean variance of a
        coordinate.
    seed (`int`, *optional*, defaults to `0`): Seed of the split.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `separability`: Balanced accuracy on rows that the rule did not see.
    `separability_chance`: What a rule that knows nothing has, 0.5.
    `separability_standard_error`: Of the accuracy, over samples of items.
Examples:
    >>> separability = hf_contrastive.load_metric("modality_separability")
    >>> x, y = [[1.0, 0.1 * i] for i in range(10)], [[-1.0, 0.1 * i] for i in range(10)]
    >>> separability.compute(predictions=x, references=y)["separability"]
    1.0
"""
    citation = r"""@inproceedings{shi2023towards,
  title={Towards Understanding the Modality Gap in {CLIP}},
  author={Shi, Peiyang and Welle, Michael C. and Bj{\"o}rkman, M{\aa}rten and Kragic, Danica},
  booktitle={ICLR Workshop on Multimodal Representation Learning},
  year={2023}
}
"""
    reference_url = "https://openreview.net/forum?id=8W3KGzw7fNI"
    optional = embedding_module.IDS

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        prediction_ids: torch.Tensor | None = None,
        reference_ids: torch.Tensor | None = None,
        folds: int = 5,
        ridge: float = 1e-3,
        seed: int = 0,
        normalize: bool = True,
    ) -> dict[str, float]:
        ids = {"x_ids": prediction_ids, "y_ids": reference_ids}
        found = modality_separability(x, y, **ids, folds=folds, ridge=ridge, seed=seed, normalize=normalize)
        return embedding_module.floats(
            {
                "separability": found.accuracy,
                "separability_chance": found.chance,
                "separability_standard_error": found.standard_error,
            }
        )
