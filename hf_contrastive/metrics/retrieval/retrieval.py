"""Where the matches of each embedding stand among all of the other modality, beside chance."""

from collections.abc import Sequence
from typing import Any

import torch

from hf_contrastive.functional import (
    RetrievalChance,
    count_matches,
    retrieval_relevance,
    two_way_retrieval_ranks,
)
from hf_contrastive.metrics import embedding_module


class Retrieval(embedding_module.EmbeddingModule):
    description = (
        "Recall, median and mean rank, MRR, mAP and NDCG of each query's matches among all keys by cosine, in both "
        "directions, each beside that of a random order. Ties share their places, so that a collapsed model scores "
        "like chance."
    )
    inputs_description = """
Args:
    predictions: Embeddings of the queries, shape (n, width).
    references: Embeddings of the keys, shape (m, width); row i matches row i of `predictions`, unless ids say
        otherwise.
    prediction_ids (`list[int]`, *optional*): Item of each row of `predictions`. By default row i matches row i.
    reference_ids (`list[int]`, *optional*): Item of each row of `references`, for example one image id for each of
        five captions.
    ks (`list[int]`, *optional*, defaults to `[1, 5, 10]`): Cut-offs of recall.
    gain_at (`int`, *optional*, defaults to `10`): Places that count for NDCG.
    relevance (`bool`, *optional*, defaults to `True`): Whether to compute mAP and NDCG, which take a multiple of the
        time of the rest.
Returns:
    `recall@k`: Share of queries with any of their matches among the first k keys.
    `median_rank`: Median rank of the best match, from 1.
    `mean_rank`: Mean rank of the best match.
    `mrr`: Mean of 1 over the rank of the best match.
    `map`: Mean average precision over all matches.
    `ndcg@10`: Normalized discounted cumulative gain of the first keys.
    `*_chance`: Each of these if the keys were in random order: the reference.
    `reverse_*`: From keys to queries.
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
    optional = embedding_module.IDS

    @staticmethod
    def measure(
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        prediction_ids: torch.Tensor | None = None,
        reference_ids: torch.Tensor | None = None,
        ks: Sequence[int] = (1, 5, 10),
        gain_at: int = 10,
        relevance: bool = True,
    ) -> dict[str, float]:
        values: dict[str, torch.Tensor] = {}
        sides = ("", x, y, prediction_ids, reference_ids), ("reverse_", y, x, reference_ids, prediction_ids)
        if not relevance:
            # One product of all rows tells the ranks of both directions.
            both_ways = iter(two_way_retrieval_ranks(x, y, query_ids=prediction_ids, key_ids=reference_ids))
        for prefix, queries, keys, query_ids, key_ids in sides:
            ids: dict[str, Any] = {"query_ids": query_ids, "key_ids": key_ids}
            if relevance:
                ranks, graded = retrieval_relevance(queries, keys, **ids, k=gain_at)
            else:
                ranks, graded = next(both_ways), None
            matches = torch.ones(len(queries), dtype=torch.long) if query_ids is None else count_matches(**ids)
            chance = RetrievalChance(len(keys), matches)
            both = {f"recall@{k}": (ranks.recall(k), chance.recall(k)) for k in ks} | {
                "median_rank": (ranks.median(), chance.median()),
                "mean_rank": (ranks.mean(), chance.mean()),
                "mrr": (ranks.mean_reciprocal(), chance.mean_reciprocal()),
            }
            if graded is not None:
                both["map"] = graded.average_precision.mean(), chance.average_precision()
                both[f"ndcg@{gain_at}"] = graded.gain.mean(), chance.gain(gain_at)
            for name, (value, at_random) in both.items():
                values |= {f"{prefix}{name}": value, f"{prefix}{name}_chance": at_random}
        return embedding_module.floats(values)
