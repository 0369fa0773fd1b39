"""Train dual and multi encoders on the Hugging Face stack, see their geometry, share them."""

from typing import TYPE_CHECKING

from hf_contrastive import auto as _auto
from hf_contrastive.lazy import lazy_names


if TYPE_CHECKING:
    from hf_contrastive.batch import ContrastiveBatch as ContrastiveBatch
    from hf_contrastive.data import ContrastiveCollator as ContrastiveCollator
    from hf_contrastive.data import ExampleDataset as ExampleDataset
    from hf_contrastive.data import Modality as Modality
    from hf_contrastive.data import PairDataset as PairDataset
    from hf_contrastive.data import load_pairs as load_pairs
    from hf_contrastive.data import load_scenes as load_scenes
    from hf_contrastive.data import mix_datasets as mix_datasets
    from hf_contrastive.data import shuffle_stream as shuffle_stream
    from hf_contrastive.diagnosis import Diagnosis as Diagnosis
    from hf_contrastive.diagnosis import diagnose as diagnose
    from hf_contrastive.encoder import EncoderOutput as EncoderOutput
    from hf_contrastive.encoder import contrastive_forward as contrastive_forward
    from hf_contrastive.evaluators import LinearProbe as LinearProbe
    from hf_contrastive.evaluators import ModelEncoder as ModelEncoder
    from hf_contrastive.evaluators import NearestNeighbors as NearestNeighbors
    from hf_contrastive.evaluators import TextSimilarity as TextSimilarity
    from hf_contrastive.evaluators import ZeroShot as ZeroShot
    from hf_contrastive.hub import PushError as PushError
    from hf_contrastive.hub import push_folder as push_folder
    from hf_contrastive.hub import push_metric_to_hub as push_metric_to_hub
    from hf_contrastive.losses import ContrastiveLoss as ContrastiveLoss
    from hf_contrastive.losses import LossInfo as LossInfo
    from hf_contrastive.losses import Schedule as Schedule
    from hf_contrastive.losses import get_loss as get_loss
    from hf_contrastive.losses import list_losses as list_losses
    from hf_contrastive.losses import register_loss as register_loss
    from hf_contrastive.metrics import full_geometry_report as full_geometry_report
    from hf_contrastive.metrics import geometry_report as geometry_report
    from hf_contrastive.metrics import list_metrics as list_metrics
    from hf_contrastive.metrics import load_metric as load_metric
    from hf_contrastive.metrics import retrieval_report as retrieval_report
    from hf_contrastive.models import MultiEncoder as MultiEncoder
    from hf_contrastive.models import MultiEncoderConfig as MultiEncoderConfig
    from hf_contrastive.models import MultiEncoderProcessor as MultiEncoderProcessor
    from hf_contrastive.models import SmallCLIPSize as SmallCLIPSize
    from hf_contrastive.models import load_dual_encoder as load_dual_encoder
    from hf_contrastive.models import small_clip as small_clip
    from hf_contrastive.recipe import parse_recipe as parse_recipe
    from hf_contrastive.report import plot_geometry as plot_geometry
    from hf_contrastive.report import result_table as result_table
    from hf_contrastive.towers.cache import CachedTowerCollator as CachedTowerCollator
    from hf_contrastive.towers.cache import cache_tower_embeddings as cache_tower_embeddings
    from hf_contrastive.towers.find import find_towers as find_towers
    from hf_contrastive.training.adapters import load_adapter as load_adapter
    from hf_contrastive.training.checkpoints import last_complete_checkpoint as last_complete_checkpoint
    from hf_contrastive.training.geometry_callback import GeometryCallback as GeometryCallback
    from hf_contrastive.training.geometry_callback import log_geometry as log_geometry
    from hf_contrastive.training.trainer import ContrastiveTrainer as ContrastiveTrainer
    from hf_contrastive.training.training_args import ContrastiveTrainingArguments as ContrastiveTrainingArguments

__version__ = "0.1.0"

# Where each name lives. Modules load on first use, so that `hf_contrastive.functional` costs no more than torch.
_MODULES = {
    "CachedTowerCollator": "towers.cache",
    "ContrastiveBatch": "batch",
    "ContrastiveCollator": "data",
    "ContrastiveLoss": "losses",
    "ContrastiveTrainer": "training.trainer",
    "ContrastiveTrainingArguments": "training.training_args",
    "Diagnosis": "diagnosis",
    "EncoderOutput": "encoder",
    "ExampleDataset": "data",
    "GeometryCallback": "training.geometry_callback",
    "LinearProbe": "evaluators",
    "LossInfo": "losses",
    "Modality": "data",
    "ModelEncoder": "evaluators",
    "MultiEncoder": "models",
    "MultiEncoderConfig": "models",
    "MultiEncoderProcessor": "models",
    "NearestNeighbors": "evaluators",
    "PairDataset": "data",
    "PushError": "hub",
    "Schedule": "losses",
    "SmallCLIPSize": "models",
    "TextSimilarity": "evaluators",
    "ZeroShot": "evaluators",
    "cache_tower_embeddings": "towers.cache",
    "contrastive_forward": "encoder",
    "diagnose": "diagnosis",
    "find_towers": "towers.find",
    "full_geometry_report": "metrics",
    "geometry_report": "metrics",
    "get_loss": "losses",
    "last_complete_checkpoint": "training.checkpoints",
    "list_losses": "losses",
    "list_metrics": "metrics",
    "load_adapter": "training.adapters",
    "load_dual_encoder": "models",
    "load_metric": "metrics",
    "load_pairs": "data",
    "load_scenes": "data",
    "log_geometry": "training.geometry_callback",
    "mix_datasets": "data",
    "parse_recipe": "recipe",
    "plot_geometry": "report",
    "push_folder": "hub",
    "push_metric_to_hub": "hub",
    "register_loss": "losses",
    "result_table": "report",
    "retrieval_report": "metrics",
    "shuffle_stream": "data",
    "small_clip": "models",
}

__all__ = list(_MODULES)
__getattr__ = lazy_names(__name__, _MODULES)


# Costs nothing: it acts once `transformers` loads its auto classes.
_auto.register()
