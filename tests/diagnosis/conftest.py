"""Clouds with a known geometry, and their diagnosis, made once."""

import pytest
import torch
from torch import Tensor

from hf_contrastive.diagnosis import Diagnosis, diagnose, interventions


ROWS, WIDTH = 80, 8


def clouds(*, gap: float = 1.0, rows: int = ROWS, width: int = WIDTH, noise: float = 0.5) -> dict[str, Tensor]:
    """Images and texts around common points, moved apart along the diagonal."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(rows, width, generator=generator)
    found = {m: points + noise * torch.randn(rows, width, generator=generator) for m in ("image", "text")}
    return {"image": found["image"] + gap, "text": found["text"] - gap / 2}


@pytest.fixture(scope="session")
def diagnosis() -> Diagnosis:
    """Clouds with a gap, compared with clouds without one."""
    return diagnose(clouds(), compare=clouds(gap=0.0))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer settings of the interventions, where they are not what is tested."""
    monkeypatch.setattr(interventions, "DIVERGENCE_WEIGHTS", (0.0, 1.0))
    monkeypatch.setattr(interventions, "HEAD_STEPS", 2)
    monkeypatch.setattr(interventions, "FRACTIONS", (-0.5, 0.5, 1.0))
    monkeypatch.setattr(interventions, "TEMPERATURES", (0.02, 0.1, 0.5))
