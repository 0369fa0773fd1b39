"""Share what was trained: checked before training, complete on disk before the upload, resumable after a failure."""

from hf_contrastive.hub.before_training import check_can_push
from hf_contrastive.hub.failures import PushError
from hf_contrastive.hub.folders import push_folder
from hf_contrastive.hub.metric_spaces import push_metric_to_hub


__all__ = ["PushError", "check_can_push", "push_folder", "push_metric_to_hub"]
