"""The order of an epoch of a million rows, and the first batch of a resumed stream."""

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset

from hf_contrastive.data import shuffle_stream
from hf_contrastive.data.samplers import MixedSampler, NoDuplicatesSampler
from hf_contrastive.data.shuffling import ReplayedStream
from tests.benchmarks.timing import machine, paired, table


ROWS, BATCH = 1_000_000, 4096


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="Rows of a map dataset.")
    parser.add_argument("--streamed", type=int, default=10_000, help="Rows of a stream, in tars of 1,000.")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    order_of_an_epoch(given.rows, given.rounds)
    first_batch_after_resuming(given.streamed)


def order_of_an_epoch(rows: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    values = {
        "no duplicates, all different": np.arange(rows),
        "no duplicates, 5 rows an id": np.arange(rows) // 5,
        # Like captions of the web: a few are everywhere.
        "no duplicates, Zipf's law": rng.zipf(1.3, rows),
    }
    samplers: dict[str, Any] = {name: NoDuplicatesSampler(ids.tolist(), BATCH) for name, ids in values.items()}
    sizes = {"large": rows - rows // 10, "small": rows // 10}
    samplers["two datasets, a batch each"] = MixedSampler(sizes, BATCH, homogeneous=True)
    ways: dict[str, Callable[[], object]] = {"numpy's permutation, as a list": lambda: rng.permutation(rows).tolist()}
    ways |= {name: lambda sampler=sampler: sum(1 for _ in sampler) for name, sampler in samplers.items()}
    print(table(f"the order of an epoch of {rows:,} rows, global batches of {BATCH:,}", paired(ways, rounds=rounds)))
    start = time.perf_counter()
    NoDuplicatesSampler(values["no duplicates, Zipf's law"].tolist(), BATCH)
    left = rows - len(samplers["no duplicates, Zipf's law"])
    print(f"\nMade once in {time.perf_counter() - start:.2f} s. Of Zipf's rows {left:,} are left out of an epoch.\n")


def first_batch_after_resuming(rows: int) -> None:
    """Seconds until the first batch of 256 when a pass is resumed at nine tenths of its rows."""
    with tempfile.TemporaryDirectory() as folder:
        files = [write_tar(Path(folder) / f"{shard:03d}.tar", 1000 * shard) for shard in range(rows // 1000)]
        stream = load_dataset("webdataset", data_files={"train": files}, split="train", streaming=True)
        ways = {
            "position of `datasets`": lambda: stream,
            "`shuffle_stream`, blocks of 1,000": lambda: shuffle_stream(stream, buffer_size=1000),
            "read again": lambda: ReplayedStream(stream),
        }
        print(
            f"first batch of 256 after resuming {rows:,} rows in tars at nine tenths\n\n| way | seconds |\n| :-- | --: |"
        )
        for name, make in ways.items():
            state = position_at(make(), rows * 9 // 10 // 256)
            resumed = make()
            resumed.load_state_dict(state)
            start = time.perf_counter()
            next(resumed.iter(256))
            print(f"| {name} | {time.perf_counter() - start:.2f} |")
    print(f"\n{machine()}")


def position_at(stream: Any, batches: int) -> dict[str, Any]:
    stream.load_state_dict(None)
    for _ in zip(range(batches), stream.iter(256), strict=False):
        pass
    return stream.state_dict()


def write_tar(file: Path, start: int) -> str:
    data = bytes(10_000)
    with tarfile.open(file, "w") as tar:
        for number in range(start, start + 1000):
            for suffix, content in (("bin", data), ("txt", b"a caption")):
                member = tarfile.TarInfo(f"{number:07d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return str(file)


if __name__ == "__main__":
    main()
