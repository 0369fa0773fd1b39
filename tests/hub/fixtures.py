"""Hubs for tests. A `conftest.py` offers them with `from tests.hub.fixtures import hub, module_hub`."""

from collections.abc import Iterator

import pytest

from .server import LoopbackHub


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def module_hub() -> Iterator[LoopbackHub]:
    """For clients that are slow to start: one of them acts, then several tests look at what it did."""
    with LoopbackHub() as hub:
        yield hub
