"""Results of runs that never happened."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.report import RunResult, write_model_card
from hf_contrastive.report.facts import TrainingFacts


METRICS = {
    "loss": 1.5,
    "logit_scale": 50.0,
    "geometry/uniformity_image": -2.5,
    "geometry/uniformity_text": -2.75,
    "geometry/effective_rank_image": 6.0,
    "geometry/effective_rank_text": 5.0,
    "geometry/uniformity_floor": -3.9,
    "geometry/alignment_image_text": 0.5,
    "geometry/modality_gap_image_text": 0.25,
    "geometry/modality_gap_floor_image_text": 0.125,
    "geometry/separability_image_text": 0.75,
    "retrieval/image_to_text_recall@1": 0.4,
    "retrieval/image_to_text_recall@10": 0.9,
    "retrieval/image_to_text_median_rank": 2.0,
    "retrieval/text_to_image_recall@1": 0.35,
    "retrieval/text_to_image_recall@10": 0.87654321,
    "retrieval/text_to_image_median_rank": 1.5,
}


def make_result(
    name: str = "clip_divergence", *, loss: str = "CLIP(chunk_size=None)", shift: float = 0.0
) -> RunResult:
    metrics = METRICS | {"geometry/alignment_image_text": 0.5 + shift}
    return RunResult(
        name=name, loss=loss, metrics=metrics, train_seconds=61.2, steps=20, batch_size=16, seed=3, test_rows=50
    )


def make_embeds(seed: int = 0, modalities: tuple[str, ...] = ("image", "text"), rows: int = 60) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, 8, generator=generator) + i for i, m in enumerate(modalities)}


FACTS: dict[str, Any] = {
    "dataset": "embedded scenes",
    "train_rows": 640,
    "base_model": None,
    "modalities": ("image", "text"),
    "model_type": "clip",
}


def write_card(folder: Path, *, loss: str = "CLIP(chunk_size=None)", **changed: Any) -> str:
    """The text of a card; `changed` are facts, arguments and `picture`."""
    names = [field.name for field in fields(TrainingFacts)]
    facts = TrainingFacts(**FACTS | {name: changed.pop(name) for name in names if name in changed})
    folder.mkdir(exist_ok=True)
    results = [make_result("clip", loss=loss), make_result("clip_divergence", shift=0.1)]
    picture = changed.pop("picture", None)
    args = ContrastiveTrainingArguments(str(folder / "output"), use_cpu=True, **changed)
    write_model_card(folder, results, args, facts, picture=picture)
    return (folder / "README.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])
