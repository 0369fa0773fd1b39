"""What a run leaves behind for people: a table, a picture, a model card."""

from typing import TYPE_CHECKING

from hf_contrastive.lazy import lazy_names


if TYPE_CHECKING:
    from hf_contrastive.report.card import update_card as update_card
    from hf_contrastive.report.card import write_model_card as write_model_card
    from hf_contrastive.report.checking import check_card as check_card
    from hf_contrastive.report.facts import Sharing as Sharing
    from hf_contrastive.report.facts import TrainingFacts as TrainingFacts
    from hf_contrastive.report.plots import plot_geometry as plot_geometry
    from hf_contrastive.report.result import RunResult as RunResult
    from hf_contrastive.report.result import read_results as read_results
    from hf_contrastive.report.result import write_results as write_results
    from hf_contrastive.report.table import geometry_table as geometry_table
    from hf_contrastive.report.table import result_table as result_table


_MODULES = {
    "RunResult": "result",
    "Sharing": "facts",
    "TrainingFacts": "facts",
    "check_card": "checking",
    "geometry_table": "table",
    "plot_geometry": "plots",
    "read_results": "result",
    "result_table": "table",
    "update_card": "card",
    "write_model_card": "card",
    "write_results": "result",
}

__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)
