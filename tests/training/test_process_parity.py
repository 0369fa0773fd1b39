"""Two and four processes reach the weights of one process with the whole batch: 20 steps, gradient clipping on."""

from pathlib import Path

import pytest
import torch

from tests.training.parity import OPTIMIZERS, SETTINGS, Setting, largest_difference, make_model, weights_by_processes


TOLERANCE = 1e-11  # absolute, on weights in double precision


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    return weights_by_processes(1, SETTINGS, tmp_path_factory.mktemp("one"))


def test_the_training_that_is_compared_moves_all_weights_and_clips_every_gradient(
    one_process: dict[str, dict[str, torch.Tensor]],
):
    for setting in SETTINGS:
        weights = dict(one_process[setting.key])
        assert weights.pop("grad_norm") > OPTIMIZERS[setting.optimizer]["max_grad_norm"]
        before = make_model(setting).state_dict()
        # Attention ignores the keys' bias; only SigLIP's loss has a bias of logits.
        moved = [n for n, x in weights.items() if float((x - before[n]).abs().max()) > 1e-4]
        still = set(weights) - set(moved) - {n for n in weights if n.endswith("k_proj.bias")}
        assert still == set(), setting.key


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "settings"),
    # tests/benchmarks/parity.py compares all settings on four as well.
    [(2, SETTINGS), (4, [Setting("clip_divergence", "adamw"), Setting("siglip", "sgd")])],
    ids=["two", "four"],
)
def test_several_processes_reach_the_weights_of_one(
    num_processes: int, settings: list[Setting], one_process: dict[str, dict[str, torch.Tensor]], tmp_path: Path
):
    found = weights_by_processes(num_processes, settings, tmp_path)
    for setting in settings:
        difference = largest_difference(found[setting.key], one_process[setting.key])
        assert difference <= TOLERANCE, f"{setting.key} on {num_processes} processes: {difference:.3g}"
