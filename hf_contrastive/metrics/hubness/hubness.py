"""How unevenly embeddings are found by those of the other modality, beside random neighbours."""

import torch

from hf_contrastive.functional import chance_hubness, hubness, k_occurrences
from hf_contrastive.metrics import embedding_module


class Hubness(embedding_module.EmbeddingModule):
    description = (
        "Hubness of retrieval between two clouds of embeddings in both directions: skewness of how often each row is "
        "among the k nearest, share of rows that none finds, and inequality, each beside that of random neighbours."
    )
    inputs_description = """
Args:
    predictions: Embeddings of one modality, shape (n, width).
    references: Embeddings of the other, shape (m, width); n and m may differ.
    k (`int`, *optional*, defaults to `10`): Neighbours of a query.
    normalize (`bool`, *optional*, defaults to `True`): Whether to scale rows to unit length first.
Returns:
    `hubness_skewness`: Third standardized moment of the number of queries that find a key; above 1 there are hubs.
    `hubness_antihubs`: Share of keys that no query finds.
    `hubness_top`: Queries that find the key that most find.
    `hubness_robin_hood`: Share of all neighbours that would have to change for all keys to be found alike, below 1.
    `*_chance`: Each of these of random neighbours: the reference.
    `reverse_*`: Keys are `references` and queries are `predictions`; reversed, the other way.
Examples:
    >>> hubness = hf_contrastive.load_metric("hubness")
    >>> rows = [[1.0, 0.0], [0.0, 1.0]]
    >>> hubness.compute(predictions=rows, references=rows, k=1)["hubness_antihubs"]
    0.0
"""
    citation = r"""@article{radovanovic2010hubs,
  title={Hubs in Space: Popular Nearest Neighbors in High-Dimensional Data},
  author={Radovanovi{\'c}, Milo{\v{s}} and Nanopoulos, Alexandros and Ivanovi{\'c}, Mirjana},
  journal={Journal of Machine Learning Research},
  year={2010}
}
"""
    reference_url = "https://jmlr.org/papers/v11/radovanovic10a.html"

    @staticmethod
    def measure(x: torch.Tensor, y: torch.Tensor, *, k: int = 10, normalize: bool = True) -> dict[str, float]:
        values: dict[str, float] = {}
        for prefix, queries, keys in (("", x, y), ("reverse_", y, x)):
            found = hubness(k_occurrences(queries, keys, k=k, normalize=normalize))
            chance = chance_hubness(len(queries), len(keys), k=k)
            for name in found._fields:
                values[f"{prefix}hubness_{name}"] = getattr(found, name)
                values[f"{prefix}hubness_{name}_chance"] = getattr(chance, name)
        return embedding_module.floats(values)
