"""The auto classes of `transformers` know the package's model, whoever is imported first, at no cost before."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_contrastive.models import MultiEncoder


ROOT = Path(__file__).parents[1]
LOAD = """
from transformers import AutoConfig, AutoModel
config = AutoConfig.from_pretrained(folder)
assert type(config).__name__ == "MultiEncoderConfig", type(config)
assert type(AutoModel.from_pretrained(folder)).__name__ == "MultiEncoder"
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "first",
    [
        "from transformers import AutoModel, AutoConfig, AutoProcessor; import hf_contrastive",
        "from transformers import AutoConfig; import importlib, hf_contrastive; importlib.reload(hf_contrastive)",
    ],
)
def test_a_saved_model_is_loaded(first: str, tmp_path: Path):
    MultiEncoder.from_towers({"a": 3, "b": 4}, width=5).save_pretrained(tmp_path)
    run(f"folder = {str(tmp_path)!r}\n{first}\n{LOAD}")


def test_a_configuration_alone_loads_no_model():
    code = "import sys, hf_contrastive; from transformers import AutoConfig; import hf_contrastive.models.configuration as c; "
    code += "assert c.MultiEncoderConfig.model_type in AutoConfig.for_model.__globals__['CONFIG_MAPPING']; "
    code += "print('transformers.models.clip.modeling_clip' in sys.modules, 'datasets' in sys.modules)"
    assert run(code).split() == ["False", "False"]
