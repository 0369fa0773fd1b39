"""One file per loss. Importing this package registers them all."""

from hf_contrastive.losses.align_uniform import AlignUniform
from hf_contrastive.losses.clip import CLIP
from hf_contrastive.losses.clip_divergence import CLIPDivergence
from hf_contrastive.losses.info_nce import InfoNCE
from hf_contrastive.losses.registry import ContrastiveLoss, LossInfo, get_loss, list_losses, register_loss, total
from hf_contrastive.losses.schedule import Schedule
from hf_contrastive.losses.siglip import SigLIP
from hf_contrastive.losses.uni_align import UniAlign


__all__ = [
    "CLIP",
    "AlignUniform",
    "CLIPDivergence",
    "ContrastiveLoss",
    "InfoNCE",
    "LossInfo",
    "Schedule",
    "SigLIP",
    "UniAlign",
    "get_loss",
    "list_losses",
    "register_loss",
    "total",
]
