"""Programs of people who do not have the package."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest


needs_sentence_transformers = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)
# An installed package is found by every program, an editable one too: here it cannot be imported.
WITHOUT_PACKAGE = "import sys; sys.modules['hf_contrastive'] = None\n"


def run_alone(code: str, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run code where the package cannot be imported; offline unless an environment is given."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"} if env is None else env
    env = {name: x for name, x in env.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", WITHOUT_PACKAGE + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
