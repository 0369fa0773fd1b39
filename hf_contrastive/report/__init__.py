"""What a run leaves behind for people: a table, a picture, a model card."""

from hf_contrastive.report.card import write_model_card
from hf_contrastive.report.plots import plot_geometry
from hf_contrastive.report.result import RunResult, read_results, write_results
from hf_contrastive.report.table import geometry_table, result_table


__all__ = [
    "RunResult",
    "geometry_table",
    "plot_geometry",
    "read_results",
    "result_table",
    "write_model_card",
    "write_results",
]
