"""Models to train: a small one from scratch, any dual encoder of the Hub."""

from hf_contrastive.models.loading import load_dual_encoder
from hf_contrastive.models.small_clip import SmallCLIPSize, small_clip


__all__ = ["SmallCLIPSize", "load_dual_encoder", "small_clip"]
