"""The diagnosis of embeddings: what parts the modalities, and what can be done about it."""

from typing import TYPE_CHECKING

from hf_contrastive.lazy import lazy_names


if TYPE_CHECKING:
    from hf_contrastive.diagnosis.diagnosis import diagnose as diagnose
    from hf_contrastive.diagnosis.options import DatasetOptions as DatasetOptions
    from hf_contrastive.diagnosis.page import write_page as write_page
    from hf_contrastive.diagnosis.result import Composition as Composition
    from hf_contrastive.diagnosis.result import CosineHistogram as CosineHistogram
    from hf_contrastive.diagnosis.result import Diagnosis as Diagnosis
    from hf_contrastive.diagnosis.result import Finding as Finding
    from hf_contrastive.diagnosis.result import Intervention as Intervention
    from hf_contrastive.diagnosis.result import PairDiagnosis as PairDiagnosis
    from hf_contrastive.diagnosis.result import Projection as Projection
    from hf_contrastive.diagnosis.result import Temperatures as Temperatures
    from hf_contrastive.diagnosis.result import Trials as Trials
    from hf_contrastive.diagnosis.result import write_json as write_json
    from hf_contrastive.diagnosis.sources import EmbeddingSource as EmbeddingSource


_MODULES = {
    "Composition": "result",
    "CosineHistogram": "result",
    "DatasetOptions": "options",
    "Diagnosis": "result",
    "EmbeddingSource": "sources",
    "Finding": "result",
    "Intervention": "result",
    "PairDiagnosis": "result",
    "Projection": "result",
    "Temperatures": "result",
    "Trials": "result",
    "diagnose": "diagnosis",
    "write_json": "result",
    "write_page": "page",
}

__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)
