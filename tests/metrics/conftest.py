"""`evaluate` modules without run-time type checks, which they do not survive."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hf_contrastive.metrics as package


@pytest.fixture(scope="module", autouse=True)
def unchecked_module() -> Iterator[None]:
    """The base of the modules as users run it.

    `evaluate` 0.4.6 copies `compute` by its code and appends to the docstring of the copy (`copyfunc` of `datasets`).
    The code of a method that pytest's import hook has wrapped holds no docstring.
    """
    name = f"{package.__name__}.embedding_module"
    path = Path(str(package.__file__)).with_name("embedding_module.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    unchecked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unchecked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, unchecked)
        patch.setattr(package, "embedding_module", unchecked, raising=False)
        yield
