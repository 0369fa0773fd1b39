"""What a card says of a run beyond its measures."""

import getpass
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from hf_contrastive.report.hub_schema import check_licence, is_repo_id
from hf_contrastive.report.objective import Objective
from hf_contrastive.towers.find import Tower, find_towers


# How encoders of `transformers` without a `pooler` make one vector of many.
POOLING = {
    "CLIPVisionModel": "class token",
    "CLIPVisionTransformer": "class token",
    "CLIPTextModel": "end-of-text token",
    "CLIPTextTransformer": "end-of-text token",
    "SiglipVisionModel": "attention",
    "SiglipVisionTransformer": "attention",
    "SiglipTextModel": "last token",
    "SiglipTextTransformer": "last token",
}
# What `datasets` calls loaders, which are no repositories of the Hub.
LOADERS = {"arrow", "audiofolder", "csv", "imagefolder", "json", "parquet", "text", "videofolder", "webdataset"}


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What only the author can say of a model, for its card.

    Args:
        license: Identifier of the model's licence on the Hub. Without one the card says that none was chosen.
        license_name: Name of a licence that the Hub does not list, with `license="other"`.
        license_link: Where its text is: a file of the repository or an address.
        language: ISO 639 codes of the texts' languages.
        benchmark_task: Identifier of the task in the `eval.yaml` of the dataset, where this is a benchmark registered on
            the Hub.
        benchmark_metric: The measure that is this benchmark's score.

    Raises:
        ValueError: The licence is none of the Hub's, or `other` without a name.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: Sequence[str] = ()
    benchmark_task: str | None = None
    benchmark_metric: str = "retrieval/image_to_text_recall@1"

    def __post_init__(self) -> None:
        if faults := check_licence(self.license, self.license_name, self.license_link):
            raise ValueError(faults[0])


@dataclass(frozen=True, kw_only=True)
class TowerFacts:
    """One encoder of a model, as a card shows it."""

    modality: str
    encoder: str
    parameters: int
    trainable: int
    pooling: str
    projection: str


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a card says of a run beyond its measures.

    Args:
        dataset: Hub id, folder or file of the data, or what to call it.
        train_rows: Number of training pairs, None for a stream of them.
        base_model: Hub id or folder of the model that was fine-tuned, or None.
        modalities: Names of the modalities.
        model_type: `model_type` of the configuration, which decides the pipeline.
        model_class: Class of the model.
        plain: Whether `transformers` alone can load it.
        towers: Its encoders.
        objective: The loss. By default what the first result's `loss` tells.
        dataset_fingerprint: Hash of the training rows, see [`~hf_contrastive.data.fingerprint.fingerprint`].
        dataset_license: What the dataset says of its licence.
        test_split: Name of the split that was measured.
        negatives: Numbers of the audit, `audit/...`, where there was one.
        hardware: What it was trained on.
        processes: Number of processes.
        inputs: Limits of what can be put in, such as the number of tokens, in words.
        sharing: What the author says.
    """

    dataset: str
    train_rows: int | None
    base_model: str | None
    modalities: tuple[str, ...]
    model_type: str
    model_class: str = ""
    plain: bool = True
    towers: tuple[TowerFacts, ...] = ()
    objective: Objective | None = None
    dataset_fingerprint: str | None = None
    dataset_license: str | None = None
    test_split: str = "test"
    negatives: Mapping[str, float] = field(default_factory=dict)
    hardware: str | None = None
    processes: int = 1
    inputs: tuple[str, ...] = ()
    sharing: Sharing = field(default_factory=Sharing)

    @property
    def hub_base_model(self) -> str | None:
        """The base model if it has a page on the Hub: a folder's path means nothing to others, and may be private."""
        return self.base_model if _on_hub(self.base_model) else None

    @property
    def hub_dataset(self) -> str | None:
        """The dataset if it has a page on the Hub."""
        return self.dataset if _on_hub(self.dataset) and self.dataset not in LOADERS else None

    @property
    def dataset_name(self) -> str:
        """What to call the data: of files, the last part of their path, unless that is who owns them."""
        if not is_local(self.dataset):
            return self.dataset
        name = Path(self.dataset.replace("\\", "/")).name
        return "local data" if not name or name == getpass.getuser() or name == Path.home().name else name


def is_local(name: str) -> bool:
    """Whether a name is a place on this machine."""
    return name.startswith((".", "/", "~")) or bool(re.match(r"[A-Za-z]:\\", name)) or Path(name).exists()


def _on_hub(name: str | None) -> bool:
    return bool(name) and not is_local(str(name)) and is_repo_id(str(name))


def describe_towers(model: nn.Module) -> tuple[TowerFacts, ...]:
    """The encoders of a model, with the way each makes one vector of an input."""
    try:
        towers = find_towers(model)
    except ValueError:
        # A model without separate encoders can be trained all the same.
        return ()
    return tuple(
        TowerFacts(
            modality=tower.modality,
            encoder=type(tower.encoder).__name__,
            parameters=sum(p.numel() for block in tower.blocks for p in block.all_parameters()),
            trainable=sum(p.numel() for block in tower.blocks for p in block.all_parameters() if p.requires_grad),
            pooling=_pooling(tower),
            projection="none" if tower.projection is None else type(tower.projection).__name__,
        )
        for tower in towers.values()
    )


def describe_inputs(config: Any) -> tuple[str, ...]:
    """What a model cuts or resizes, in words."""
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    found = []
    if tokens := getattr(text, "max_position_embeddings", None):
        found.append(f"Texts are cut after {tokens} tokens.")
    if size := getattr(vision, "image_size", None):
        found.append(f"Images are seen at {size} x {size} pixels.")
    return tuple(found)


def _pooling(tower: Tower) -> str:
    own = getattr(tower.encoder, "pooling", None)
    if isinstance(own, str):
        return own
    if getattr(tower.encoder, "pooler", None) is not None:
        return "its own pooler"
    return POOLING.get(type(tower.encoder).__name__, "as in its class")
