"""One file per loss. Importing this package registers them all."""

from hf_contrastive.losses.align_uniform import AlignUniform
from hf_contrastive.losses.barlow_twins import BarlowTwins
from hf_contrastive.losses.cauchy_schwarz import CauchySchwarz
from hf_contrastive.losses.clip import CLIP
from hf_contrastive.losses.clip_divergence import CLIPDivergence
from hf_contrastive.losses.dcl import DCL, DCLW
from hf_contrastive.losses.debiased import Debiased
from hf_contrastive.losses.decoupled_info_nce import DecoupledInfoNCE
from hf_contrastive.losses.gaussian_kl import GaussianKL
from hf_contrastive.losses.gram_volume import GramVolume
from hf_contrastive.losses.hard_negative import HardNegative
from hf_contrastive.losses.hoelder_divergence import HoelderDivergence
from hf_contrastive.losses.info_nce import InfoNCE
from hf_contrastive.losses.matryoshka import Matryoshka
from hf_contrastive.losses.nt_xent import NTXent
from hf_contrastive.losses.registry import (
    ContrastiveLoss,
    LossInfo,
    get_loss,
    inner_losses,
    list_losses,
    register_loss,
    total,
    uses_bias,
)
from hf_contrastive.losses.schedule import Schedule
from hf_contrastive.losses.siglip import SigLIP
from hf_contrastive.losses.sliced_gaussian import SlicedGaussian
from hf_contrastive.losses.sup_con import SupCon
from hf_contrastive.losses.symile import Symile
from hf_contrastive.losses.uni_align import UniAlign
from hf_contrastive.losses.vicreg import VICReg
from hf_contrastive.losses.weighted_sum import WeightedSum


__all__ = [
    "CLIP",
    "DCL",
    "DCLW",
    "AlignUniform",
    "BarlowTwins",
    "CLIPDivergence",
    "CauchySchwarz",
    "ContrastiveLoss",
    "Debiased",
    "DecoupledInfoNCE",
    "GaussianKL",
    "GramVolume",
    "HardNegative",
    "HoelderDivergence",
    "InfoNCE",
    "LossInfo",
    "Matryoshka",
    "NTXent",
    "Schedule",
    "SigLIP",
    "SlicedGaussian",
    "SupCon",
    "Symile",
    "UniAlign",
    "VICReg",
    "WeightedSum",
    "get_loss",
    "inner_losses",
    "list_losses",
    "register_loss",
    "total",
    "uses_bias",
]
