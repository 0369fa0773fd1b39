"""Fixtures of the tiled reductions."""

import pytest

from hf_contrastive.functional import tiles


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of 4 x 4 pairs, so that a handful of rows spans many, some of them cut off."""
    monkeypatch.setattr(tiles, "TILE", 4)
    return 4


@pytest.fixture(params=[4, 1024], ids=["many tiles", "one tile"])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Few rows in many tiles, and in one."""
    monkeypatch.setattr(tiles, "TILE", request.param)
    return request.param
