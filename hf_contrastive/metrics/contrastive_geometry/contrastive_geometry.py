"""All measures of two clouds of embeddings at once."""

from typing import Any

import torch

from hf_contrastive.metrics import all_measures, embedding_module


class ContrastiveGeometry(embedding_module.EmbeddingModule):
    description = (
        "All measures of two clouds of embeddings in one call: alignment, cosines, gap, distances and divergences, "
        "energies, conflict, uniformity, spectrum, isotropy, Gaussianity, retrieval and hubness, each value beside "
        "its reference."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other; row i matches row i of `predictions`, unless ids say otherwise.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
    groups (`list[str]`, *optional*): Of `pairs`, `gap`, `divergence`, `energy`, `conflict`, `shape` and `retrieval`.
        By default all whose pairing is known: with ids all but `conflict`, and of clouds of different sizes without
        ids `gap`, `divergence`, `shape` and hubness.
    max_rows (`int`, *optional*, defaults to `5000`): Rows of each side that measures with a cost quadratic in them
        see, drawn with the seed; rows of one item stay together. None for all.
    names (`list[str]`, *optional*, defaults to `["predictions", "references"]`): What measures of one cloud end
        with, for example `uniformity_image` and `uniformity_text`.
    options (`dict`, *optional*): Options of modules by their name, for example `{"retrieval": {"ks": [1]}}`.
    seed (`int`, *optional*, defaults to `0`): Seed of the draw, and of all modules that draw.
Returns:
    those of the modules: Under the names that each module has for them; of modules for one cloud with the suffix
        `_predictions` or `_references` (`names`).
    `rows_predictions`: Rows that were given.
    `rows_references`: As much for `references`.
    `quadratic_rows_predictions`: Rows that measures of quadratic cost saw.
    `quadratic_rows_references`: As much for `references`.
Examples:
    >>> geometry = hf_contrastive.load_metric("contrastive_geometry")
    >>> x, y = [[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]
    >>> found = geometry.compute(predictions=x, references=y, groups=["gap"], options={"modality_separability": {"folds": 2}})
    >>> round(found["modality_gap"], 4), found["rows_predictions"]
    (1.4142, 2.0)
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
        **options: Any,
    ) -> dict[str, float]:
        return all_measures.measure_all(x, y, x_ids=prediction_ids, y_ids=reference_ids, **options)
