"""The diagnosis of embeddings: what parts the modalities, and what can be done about it."""

from hf_contrastive.diagnosis.diagnosis import diagnose
from hf_contrastive.diagnosis.embedding import DatasetOptions
from hf_contrastive.diagnosis.page import write_page
from hf_contrastive.diagnosis.result import (
    Composition,
    CosineHistogram,
    Diagnosis,
    Finding,
    Intervention,
    PairDiagnosis,
    Projection,
    Temperatures,
    Trials,
    write_json,
)
from hf_contrastive.diagnosis.sources import EmbeddingSource


__all__ = [
    "Composition",
    "CosineHistogram",
    "DatasetOptions",
    "Diagnosis",
    "EmbeddingSource",
    "Finding",
    "Intervention",
    "PairDiagnosis",
    "Projection",
    "Temperatures",
    "Trials",
    "diagnose",
    "write_json",
    "write_page",
]
