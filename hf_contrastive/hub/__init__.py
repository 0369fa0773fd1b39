"""Share what was trained: checked before training, complete on disk before the upload, resumable after a failure."""

from typing import TYPE_CHECKING

from hf_contrastive.lazy import lazy_names


if TYPE_CHECKING:
    from hf_contrastive.hub.before_training import check_can_push as check_can_push
    from hf_contrastive.hub.failures import PushError as PushError
    from hf_contrastive.hub.folders import push_folder as push_folder
    from hf_contrastive.hub.metric_spaces import push_metric_to_hub as push_metric_to_hub


_MODULES = {
    "PushError": "failures",
    "check_can_push": "before_training",
    "push_folder": "folders",
    "push_metric_to_hub": "metric_spaces",
}

__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)
