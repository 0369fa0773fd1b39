"""A process that dies or raises ends the job with an error: under torchrun, and where nobody watches."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
SECONDS = 60  # from the failure to the end of all processes; most of it is torchrun's grace for the others


def popen(command: list[str], folder: Path, **values: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)} | values
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)


def start(launcher: str, folder: Path, way: str) -> list[subprocess.Popen[bytes]]:
    """The processes to wait for: torchrun itself, or the two that train."""
    script = ["-m", "tests.training.failing_run", str(folder), way]
    if launcher == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *script]
        return [popen(command, folder)]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    return [
        popen([sys.executable, *script], folder, **place, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)
    ]


@pytest.mark.distributed
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("way", "launcher"), [("kill", "torchrun"), ("kill", "nobody"), ("raise", "torchrun")])
def test_a_lost_process_ends_the_job_with_an_error(way: str, launcher: str, tmp_path: Path):
    processes = start(launcher, tmp_path, way)
    try:
        pid = tmp_path / "1.pid"
        deadline = time.monotonic() + 120
        while not pid.exists():
            assert time.monotonic() < deadline, (tmp_path / "log.txt").read_text()[-2000:]
            time.sleep(0.1)
        if way == "kill":
            os.kill(int(pid.read_text()), signal.SIGKILL)
        began = time.monotonic()
        codes = [process.wait(timeout=max(1.0, SECONDS - (time.monotonic() - began))) for process in processes]
    finally:
        for process in processes:
            process.kill()
    print(f"{way}, {launcher}: ended after {time.monotonic() - began:.1f} s with {codes}")
    assert all(codes), codes
    if way == "raise":
        assert "ValueError: Row 5 cannot be decoded." in (tmp_path / "log.txt").read_text()
    # Nobody is left behind either.
    for file in tmp_path.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
