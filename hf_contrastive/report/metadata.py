"""The metadata of a card: what the Hub finds, filters and shows a model by."""

import re
from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

from hf_contrastive.metrics.measures import read_key
from hf_contrastive.report.facts import TrainingFacts
from hf_contrastive.report.objective import Objective
from hf_contrastive.report.result import RunResult
from hf_contrastive.report.retrieval import read_retrieval


if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

# What the zero-shot pipeline of `transformers` runs.
ZERO_SHOT = ("clip", "siglip", "siglip2", "altclip", "chinese_clip", "align", "metaclip_2", "vision-text-dual-encoder")
# Tokens to which that pipeline pads the texts of SigLIP, whatever the model was trained with.
_PIPELINE_TOKENS = 64


def zero_shot_runs(config: Mapping[str, Any]) -> bool:
    """Whether the pipeline of zero-shot image classification runs on a model with this configuration."""
    kind = str(config.get("model_type"))
    if kind in ("siglip", "siglip2"):
        return (config.get("text_config") or {}).get("max_position_embeddings", _PIPELINE_TOKENS) == _PIPELINE_TOKENS
    return kind in ZERO_SHOT


def pipeline_of(facts: TrainingFacts) -> str:
    """The task under which the Hub files a model."""
    runs = facts.model_type in ZERO_SHOT if facts.zero_shot is None else facts.zero_shot
    if facts.plain and runs and not facts.adapter:
        return "zero-shot-image-classification"
    return "sentence-similarity" if _kinds(facts) == {"text"} else "feature-extraction"


def build_metadata(name: str, own: RunResult, facts: TrainingFacts, objective: Objective) -> "ModelCardData":
    """The metadata of a model's card, with its retrieval and its gap as results."""
    from huggingface_hub import EvalResult, ModelCardData

    measures = {
        key: value
        for key, value in own.metrics.items()
        if read_retrieval(key) or ((reading := read_key(key)) and reading.measure.name == "modality_gap")
    }
    sharing = facts.sharing
    languages = list(sharing.language)
    bases = list(facts.hub_base_models)
    losses = [info.name for info in objective.infos] or [objective.name]
    tags = [
        "hf_contrastive",
        "contrastive-learning",
        "dual-encoder" if len(facts.modalities) == 2 else "multi-encoder",
        *(f"loss:{loss}" for loss in losses),
        *([f"dataset_size:{facts.train_rows}"] if facts.train_rows else []),
    ]
    return ModelCardData(
        library_name="peft" if facts.adapter else "transformers" if facts.plain else "hf_contrastive",
        pipeline_tag=pipeline_of(facts),
        license=sharing.license or "unknown",
        license_name=sharing.license_name,
        license_link=sharing.license_link,
        language=(languages if len(languages) != 1 else languages[0]) if languages else None,
        tags=[*tags, *(tag for tag in facts.tags if tag not in tags)],
        base_model=bases[0] if len(bases) == 1 else bases or None,
        # Said, as the Hub takes a model of several for a merge of their weights.
        base_model_relation=("adapter" if facts.adapter else "finetune") if bases else None,
        datasets=facts.hub_datasets or None,
        metrics=list(dict.fromkeys(found.measure for key in measures if (found := read_retrieval(key)))) or None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=_task_of(key, facts),
                dataset_type=(facts.hub_dataset if facts.test_dataset is None else None)
                or _slug(facts.measured_dataset),
                dataset_name=facts.measured_dataset,
                dataset_split=facts.test_split,
                metric_type=key.replace("/", "_"),
                metric_name=key,
                metric_value=round(value, 4),
            )
            for key, value in measures.items()
        ]
        or None,
    )


def _task_of(key: str, facts: TrainingFacts) -> str:
    """What a measure is a result of: each pair of modalities has a task of its own."""
    if found := read_retrieval(key):
        names = found.queries, found.keys
    else:
        named = {f"{m}_{n}": (m, n) for m, n in permutations(facts.modalities, 2)}
        names = next((names for pair, names in named.items() if key.endswith(f"_{pair}")), ("", ""))
    kinds = {facts.kinds.get(name, name) for name in names}
    return "image-text-retrieval" if kinds == {"image", "text"} else "retrieval"


def _kinds(facts: TrainingFacts) -> set[str]:
    """What a model takes: modalities may have names of their own, such as query and document."""
    return {facts.kinds.get(modality, modality) for modality in facts.modalities}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
