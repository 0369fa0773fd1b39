"""What a run leaves behind for people: a table, a picture, a model card."""

from hf_contrastive.report.card import update_card, write_model_card
from hf_contrastive.report.checking import check_card
from hf_contrastive.report.facts import Sharing, TrainingFacts
from hf_contrastive.report.plots import plot_geometry
from hf_contrastive.report.result import RunResult, read_results, write_results
from hf_contrastive.report.table import geometry_table, result_table


__all__ = [
    "RunResult",
    "Sharing",
    "TrainingFacts",
    "check_card",
    "geometry_table",
    "plot_geometry",
    "read_results",
    "result_table",
    "update_card",
    "write_model_card",
    "write_results",
]
