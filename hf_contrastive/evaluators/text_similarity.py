"""Semantic textual similarity: do cosines rank pairs of sentences as people do?"""

from typing import Any

import torch

from hf_contrastive.evaluators.columns import Column
from hf_contrastive.evaluators.protocol import Encoder
from hf_contrastive.functional import spearman


class TextSimilarity:
    """
    Spearman correlation of the cosine of two sentences with a score that people gave.

    Args:
        dataset (`datasets.Dataset` or `torch.utils.data.Dataset`):
            Pairs of sentences with scores.
        columns (`tuple[str, str]`, *optional*, defaults to `("sentence1", "sentence2")`):
            Columns of the sentences.
        score_column (`str`, *optional*, defaults to `"score"`):
            Column of the scores, of any scale.
        modality (`str`, *optional*, defaults to `"text"`):
            Modality of the sentences.
        name (`str`, *optional*, defaults to `"sts"`):
            What names of metrics begin with.

    Raises:
        ValueError: A column is missing, a score is no number, or all scores are equal.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        columns: tuple[str, str] = ("sentence1", "sentence2"),
        score_column: str = "score",
        modality: str = "text",
        name: str = "sts",
    ) -> None:
        if len(columns) != 2:
            raise ValueError(f"`columns` must name the two columns of sentences, but got {columns!r}.")
        self.sentences = [Column(dataset, column, "columns") for column in columns]
        scores = Column(dataset, score_column, "score_column")[:]
        for row, score in enumerate(scores):
            if isinstance(score, str) or score is None or score != score:
                raise ValueError(f"Row {row} has the score {score!r} in column {score_column!r}, which is no number.")
        self.scores = torch.tensor([float(score) for score in scores], dtype=torch.float64)
        if (self.scores == self.scores[0]).all():
            raise ValueError(f"All {len(scores)} scores in column {score_column!r} are {float(self.scores[0])}.")
        self.modality, self.name = modality, name

    def __call__(self, encode: Encoder) -> dict[str, float]:
        """`<name>/spearman`, from -1 to 1; 0 where the model gives all pairs one cosine."""
        first, second = (encode(self.modality, column) for column in self.sentences)
        cosines = (first * second).sum(dim=1)
        # Nothing is ranked by a constant; not an error, since training may start there.
        if (cosines == cosines[0]).all():
            return {f"{self.name}/spearman": 0.0}
        return {f"{self.name}/spearman": float(spearman(cosines, self.scores))}
