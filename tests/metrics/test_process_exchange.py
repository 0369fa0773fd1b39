"""Processes that hand their rows to the first: the protocol with threads, and `evaluate` with two real processes."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_contrastive.functional import alignment, modality_gap, retrieval_ranks
from hf_contrastive.metrics.process_exchange import ProcessExchange


def exchange(folder: Path, process: int, *, num: int = 3, timeout: float = 20) -> ProcessExchange:
    return ProcessExchange(str(folder), "experiment", num, process, timeout)


def rows(*values: float) -> dict[str, torch.Tensor]:
    return {"predictions": torch.tensor([values])}


def test_process_0_gets_the_rows_of_the_others_in_their_order(tmp_path: Path):
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(exchange(tmp_path, process).hand_over, rows(process)) for process in (2, 1)]
        found = exchange(tmp_path, 0).collect()
        assert [other.result() for other in others] == [None, None]
    assert [float(each["predictions"]) for each in found] == [1, 2]
    assert not [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_one_exchange_follows_another_whoever_is_faster(tmp_path: Path):
    def hand_over_ten() -> None:
        for turn in range(10):
            exchange(tmp_path, 1, num=2).hand_over(rows(turn))

    with ThreadPoolExecutor() as pool:
        other = pool.submit(hand_over_ten)
        found = [float(exchange(tmp_path, 0, num=2).collect()[0]["predictions"]) for _ in range(10)]
        other.result()
    assert found == list(range(10))


def test_what_a_run_before_left_behind_is_not_taken(tmp_path: Path):
    (tmp_path / "experiment-2-0.invitation").write_text("old")
    save_file(rows(7), tmp_path / "experiment-2-1-old.safetensors", metadata={"error": ""})
    with ThreadPoolExecutor() as pool:
        # The other process comes first, and answers the old invitation until there is a new one.
        other = pool.submit(exchange(tmp_path, 1, num=2).hand_over, rows(1))
        time.sleep(0.2)
        (found,) = exchange(tmp_path, 0, num=2).collect()
        other.result()
    assert float(found["predictions"]) == 1
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_process_that_does_not_come_is_named(tmp_path: Path):
    with ThreadPoolExecutor() as pool:
        other = pool.submit(exchange(tmp_path, 1).hand_over, rows(1))
        with pytest.raises(ValueError, match=r"Process 0 .* has waited 0.3 s for `compute` of process 2\. "):
            exchange(tmp_path, 0, timeout=0.3).collect()
        other.result()
    with pytest.raises(ValueError, match=r"Process 1 .* has waited 0.1 s for `compute` of process 0\. "):
        exchange(tmp_path, 1, timeout=0.1).hand_over(rows(1))
    assert not [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_an_error_of_another_process_is_raised_on_the_first(tmp_path: Path):
    with ThreadPoolExecutor() as pool:
        other = pool.submit(lambda: exchange(tmp_path, 1, num=2).hand_over({}, error="one width in all batches"))
        with pytest.raises(ValueError, match="Process 1 has failed: one width in all batches"):
            exchange(tmp_path, 0, num=2).collect()
        other.result()


def test_two_evaluations_of_one_name_are_refused(tmp_path: Path):
    with ThreadPoolExecutor() as pool:
        first = pool.submit(exchange(tmp_path, 1, num=2, timeout=3).hand_over, rows(1))
        time.sleep(0.2)
        with pytest.raises(ValueError, match="Another module exchanges rows as process 1 of experiment 'experiment'"):
            exchange(tmp_path, 1, num=2).hand_over(rows(2))
        exchange(tmp_path, 0, num=2).collect()
        first.result()


MEASURE = """
import json
import sys
import time

import torch

from hf_contrastive import load_metric

process, folder = int(sys.argv[1]), sys.argv[2]
generator = torch.Generator().manual_seed(0)
x, y = torch.randn(2, 30, 4, generator=generator)
mine = [slice(0, 9), slice(9, 30)][process]
found = []
for name in ("modality_gap", "alignment", "retrieval"):
    module = load_metric(name, num_process=2, process_id=process, cache_dir=folder, experiment_id="two", timeout=60)
    for turn in range(2):
        ids = {} if name == "modality_gap" else {"prediction_ids": torch.arange(30)[mine], "reference_ids": torch.arange(30)[mine]}
        module.add_batch(predictions=x[mine][:5] + turn, references=y[mine][:5], **{k: v[:5] for k, v in ids.items()})
        module.add_batch(predictions=x[mine][5:] + turn, references=y[mine][5:], **{k: v[5:] for k, v in ids.items()})
        found.append(module.compute())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_measure_what_one_would(tmp_path: Path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEASURE, str(process), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for process in (0, 1)
    ]
    first, second = (json.loads(process.communicate(timeout=100)[0].splitlines()[-1]) for process in processes)
    assert second == [None] * 6
    x, y = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    for turn in (0, 1):
        assert first[turn]["modality_gap"] == pytest.approx(modality_gap(x + turn, y).gap.item(), rel=1e-5)
        assert first[2 + turn]["alignment"] == pytest.approx(alignment(x + turn, y).item(), rel=1e-5)
        assert first[4 + turn]["mean_rank"] == pytest.approx(retrieval_ranks(x + turn, y).mean().item(), rel=1e-5)
