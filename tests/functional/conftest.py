"""Fixtures of the tiled reductions."""

import pytest

from hf_contrastive.functional import potential, softplus, tiles


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of 4 x 4 pairs, so that a handful of rows spans many, some of them cut off."""
    for module in (tiles, softplus, potential):
        monkeypatch.setattr(module, "TILE", 4)
    return 4


@pytest.fixture(params=[4, 1024], ids=["many tiles", "one tile"])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Few rows in many tiles, and in one."""
    for module in (tiles, softplus, potential):
        monkeypatch.setattr(module, "TILE", request.param)
    return request.param
