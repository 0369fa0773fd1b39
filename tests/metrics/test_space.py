"""A module as a Space: `evaluate.load("user/name")` runs the very files of its folder."""

import json
from pathlib import Path

import pytest
import torch

from hf_contrastive.functional import modality_gap
from hf_contrastive.metrics import loading
from tests.hub.server import LoopbackHub


FOLDER = Path(loading.__file__).parent
MEASURE = """
import json
import evaluate
gap = evaluate.load("tester/modality_gap", module_type="measurement")
rows = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
gap.add_batch(predictions=rows[:1], references=rows[1:])
whole = evaluate.load("tester/contrastive_geometry", module_type="measurement")
few = {"modality_separability": {"folds": 3}}
print(json.dumps(gap.compute(predictions=rows[1:], references=rows[:1])))
print(json.dumps(whole.compute(predictions=rows, references=rows, groups=["gap"], options=few)))
"""


@pytest.mark.slow
def test_a_space_computes_what_the_functional_core_does(hub: LoopbackHub, tmp_path: Path):
    for name in ("modality_gap", "contrastive_geometry"):
        files = {path.name: path.read_bytes() for path in (FOLDER / name).iterdir() if path.is_file()}
        hub.publish(f"tester/{name}", files, repo_type="space")
    process = hub.run(MEASURE, tmp_path)
    assert process.returncode == 0, process.stderr
    rows = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    gap = modality_gap(rows, rows)
    found, whole = map(json.loads, process.stdout.splitlines()[-2:])
    assert found["modality_gap"] == pytest.approx(gap.gap.item(), abs=1e-6)
    assert found["modality_gap_floor"] == whole["modality_gap_floor"] == pytest.approx(gap.floor.item(), rel=1e-6)
