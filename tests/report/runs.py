"""Results of runs that never happened."""

import torch
from torch import Tensor

from hf_contrastive.report import RunResult


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
