"""Measures for logs and reports, and `evaluate` modules in one folder each."""

from hf_contrastive.metrics.full_report import full_geometry_report
from hf_contrastive.metrics.loading import list_metrics, load_metric
from hf_contrastive.metrics.report import geometry_report, retrieval_report


__all__ = ["full_geometry_report", "geometry_report", "list_metrics", "load_metric", "retrieval_report"]
