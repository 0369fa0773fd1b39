"""Retrieval: where the match of each embedding stands among all embeddings of the other modality."""

import torch

from hf_contrastive.functional import two_way_retrieval_ranks
from hf_contrastive.metrics import embedding_module


class Retrieval(embedding_module.EmbeddingModule):
    description = (
        "Recall and median rank of each query's match among all keys by cosine, in both directions. Ties share their "
        "places, so that a collapsed model scores like chance."
    )
    inputs_description = """
Args:
    predictions: Embeddings of the queries, shape (n, width).
    references: Embeddings of the keys, shape (m, width).
    query_ids (`list[int]`, *optional*): Item of each query. By default row i matches row i.
    key_ids (`list[int]`, *optional*): Item of each key, for example one image id for each of five captions.
    ks (`list[int]`, *optional*, defaults to `[1, 5, 10]`): Cut-offs of recall.
Returns:
    `recall@k`, `median_rank`: From queries to keys; ranks count from 1.
    `reverse_recall@k`, `reverse_median_rank`: From keys to queries.
Examples:
    >>> found = hf_contrastive.load_metric("retrieval")
    >>> found.compute(predictions=[[1.0, 0.0], [0.0, 1.0]], references=[[1.0, 0.1], [0.1, 1.0]], ks=[1])["recall@1"]
    1.0
"""
    citation = """\
@article{hodosh2013framing,
  title={Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics},
  author={Hodosh, Micah and Young, Peter and Hockenmaier, Julia},
  journal={Journal of Artificial Intelligence Research},
  year={2013}
}
"""
    reference_url = "https://doi.org/10.1613/jair.3994"

    def measure(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        query_ids: list[int] | None = None,
        key_ids: list[int] | None = None,
        ks: tuple[int, ...] = (1, 5, 10),
    ) -> dict[str, float]:
        ids = [None if given is None else torch.as_tensor(given) for given in (query_ids, key_ids)]
        forth, back = two_way_retrieval_ranks(x, y, query_ids=ids[0], key_ids=ids[1])
        values: dict[str, torch.Tensor] = {}
        for prefix, ranks in (("", forth), ("reverse_", back)):
            values |= {f"{prefix}recall@{k}": ranks.recall(k) for k in ks}
            values[f"{prefix}median_rank"] = ranks.median()
        return embedding_module.floats(values)
