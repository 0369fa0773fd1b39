"""How processes that share no more than a folder hand their rows to the first of them.

The first process writes an invitation with a token of its own; each other answers with a file that bears this token, and
waits until it has been taken. So a file that an earlier run left behind is never taken for an answer, processes may
arrive in any order, and none waits longer than the timeout for one that does not come.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


POLL_SECONDS = 0.02


class ProcessExchange:
    """
    One side of the exchange of `num_process` processes.

    Args:
        folder: A folder that all processes see.
        experiment: Name of what is exchanged, the same on all processes and on no others at the same time.
        num_process: Processes.
        process_id: Number of this process, from 0.
        timeout: Seconds to wait for others.
    """

    def __init__(self, folder: str, experiment: str, num_process: int, process_id: int, timeout: float) -> None:
        self._base = Path(folder) / f"{experiment}-{num_process}"
        self._others = range(1, num_process)
        self._process_id = process_id
        self._timeout = timeout
        self._experiment = experiment

    def collect(self) -> list[dict[str, Tensor]]:
        """
        What the other processes hand over, in order. For process 0.

        Raises:
            ValueError: A process has not come in time, or has failed; the message says which.
        """
        token = uuid.uuid4().hex
        answers = {process: self._answer(process, token) for process in self._others}
        with self._alone():
            self._write(self._invitation, lambda path: path.write_text(token))
            try:
                self._wait(
                    lambda: all(path.exists() for path in answers.values()),
                    lambda: [process for process, path in answers.items() if not path.exists()],
                )
                read = [self._read(process, path) for process, path in answers.items()]
            finally:
                # In this order: who finds its answer taken may begin the next exchange, and must not answer this again.
                self._invitation.unlink(missing_ok=True)
                for path in answers.values():
                    path.unlink(missing_ok=True)
        return read

    def hand_over(self, tensors: Mapping[str, Tensor], *, error: str = "") -> None:
        """
        Give process 0 these tensors, or say why there are none, and wait until it has taken them. For other processes.

        Raises:
            ValueError: Process 0 has not come in time.
        """
        rows = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        answer: Path | None = None

        def is_taken() -> bool:
            nonlocal answer
            try:
                path = self._answer(self._process_id, self._invitation.read_text())
            except FileNotFoundError:
                return answer is not None and not answer.exists()
            if path == answer:
                return not answer.exists()
            if answer is not None:
                try:
                    answer.unlink()  # The first invitation was that of a run which is no more,
                except FileNotFoundError:
                    return True  # or it was accepted, and this one begins the next exchange.
            self._write(path, lambda path: save_file(rows, path, metadata={"error": error}))
            answer = path
            return False

        with self._alone():
            try:
                self._wait(is_taken, lambda: [0])
            finally:
                if answer is not None:
                    answer.unlink(missing_ok=True)

    @property
    def _invitation(self) -> Path:
        return self._base.with_name(f"{self._base.name}-0.invitation")

    def _answer(self, process: int, token: str) -> Path:
        return self._base.with_name(f"{self._base.name}-{process}-{token}.safetensors")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from taking this process's part in the exchange. The lock ends with the process."""
        lock = FileLock(self._base.with_name(f"{self._base.name}-{self._process_id}.lock"))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            raise ValueError(
                f"Another module exchanges rows as process {self._process_id} of experiment {self._experiment!r} in "
                f"{str(self._base.parent)!r}. Give each evaluation its own `experiment_id`."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _wait(self, is_done: Callable[[], bool], missing: Callable[[], list[int]]) -> None:
        end = time.monotonic() + self._timeout
        while not is_done():
            if time.monotonic() > end:
                processes = ", ".join(map(str, missing()))
                raise ValueError(
                    f"Process {self._process_id} of experiment {self._experiment!r} has waited {self._timeout} s for "
                    f"`compute` of process {processes}. Every process must call it, with the same `experiment_id` and "
                    f"`cache_dir` ({str(self._base.parent)!r}); `timeout` sets how long is waited."
                )
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _write(path: Path, write: Callable[[Path], object]) -> None:
        # Whole or not at all: the other side must not read half of it.
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        write(part)
        part.replace(path)

    @staticmethod
    def _read(process: int, path: Path) -> dict[str, Tensor]:
        with safe_open(path, framework="pt") as file:
            if error := file.metadata()["error"]:
                raise ValueError(f"Process {process} has failed: {error}")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
