"""Scenes that several test files look at, sampled once."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest

from hf_contrastive.data.scenes.sampling import Sample, sample_split


@pytest.fixture(scope="session")
def test_samples() -> list[Sample]:
    with _without_type_checks():
        return sample_split("test", 1000)


@pytest.fixture(scope="session")
def validation_samples() -> list[Sample]:
    with _without_type_checks():
        return sample_split("validation", 300)


@pytest.fixture(scope="session")
def train_samples() -> list[Sample]:
    with _without_type_checks():
        return sample_split("train", 1500)


@contextmanager
def _without_type_checks() -> Iterator[None]:
    """Sample thousands of scenes ten times as fast; the smaller samples of single tests keep the checks."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
