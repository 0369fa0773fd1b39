"""Fixtures of the tiled reductions."""

import pytest

from hf_contrastive.functional import dense, tiles


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of 4 x 4 pairs, so that a handful of rows spans many, some of them cut off."""
    monkeypatch.setattr(tiles, "TILE", 4)
    return 4


@pytest.fixture
def no_dense_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles for few pairs too, which otherwise have a way of their own."""
    monkeypatch.setattr(dense, "FEW_PAIRS", 0)


@pytest.fixture(
    params=[(4, 0), (1024, 0), (1024, 2**14)], ids=["many tiles", "one tile", "no tile where none is needed"]
)
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Few rows in many tiles, in one, and dense where the mask allows."""
    size, few_pairs = request.param
    monkeypatch.setattr(tiles, "TILE", size)
    monkeypatch.setattr(dense, "FEW_PAIRS", few_pairs)
    return size
