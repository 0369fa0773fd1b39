"""Measures of a model on data of their own, during training or by themselves."""

from hf_contrastive.evaluators.encoding import ModelEncoder
from hf_contrastive.evaluators.probes import LinearProbe, NearestNeighbors
from hf_contrastive.evaluators.protocol import Encoder, Evaluator, evaluate_all, refuse_equal_names
from hf_contrastive.evaluators.text_similarity import TextSimilarity
from hf_contrastive.evaluators.zero_shot import ZeroShot


__all__ = [
    "Encoder",
    "Evaluator",
    "LinearProbe",
    "ModelEncoder",
    "NearestNeighbors",
    "TextSimilarity",
    "ZeroShot",
    "evaluate_all",
    "refuse_equal_names",
]
