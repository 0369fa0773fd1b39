"""A step in chunks beside a plain one: time and peak memory.

    python -m tests.benchmarks.chunked [rows ...] [--chunk 32]

CPU time of one thread, forward and backward with the `clip` loss, of a CLIP of width 128 with 4 + 4 layers on images of
64 pixels in patches of 8 and on 32 tokens. Memory is the growth of the resident set's high-water mark over one step in
a fresh process, beside weights, their gradients and inputs.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, set_seed

from hf_contrastive.distributed import gather_batch
from hf_contrastive.encoder import EncoderOutput, contrastive_forward
from hf_contrastive.losses import CLIP, total
from hf_contrastive.training.chunked import KEEP_BYTES, encode_in_chunks
from hf_contrastive.training.micro_batches import split_rows
from tests.benchmarks.losses_memory import high_water_mark
from tests.benchmarks.timing import machine, paired, table


MIB = 2**20
TOWER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT = {"vocab_size": 2000, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1999, "pad_token_id": 1}
IMAGE = {"image_size": 64, "patch_size": 8}


def make_model() -> CLIPModel:
    set_seed(0)
    return CLIPModel(CLIPConfig(text_config=TOWER | TEXT, vision_config=TOWER | IMAGE, projection_dim=128))


def make_inputs(rows: int) -> dict[str, Tensor]:
    ids = torch.randint(2, 1999, (rows, 32))
    ids[:, -1] = 1999
    return {"pixel_values": torch.randn(rows, 3, 64, 64), "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def ways(model: CLIPModel, chunk: int) -> dict[str, Callable[[dict[str, Tensor]], None]]:
    def encode(inputs: Any) -> EncoderOutput:
        with contrastive_forward(model):
            return model(**inputs)

    def step(inputs: dict[str, Tensor], keep_bytes: int | None) -> None:
        model.zero_grad(set_to_none=False)
        if keep_bytes is None:
            output = encode(inputs)
        else:
            output = encode_in_chunks(encode, split_rows(inputs, chunk), model=model, keep_bytes=keep_bytes)
        total(CLIP()(gather_batch(output))).backward()

    def frozen(inputs: dict[str, Tensor], keep_bytes: int | None) -> None:
        model.vision_model.requires_grad_(False)
        step(inputs, keep_bytes)
        model.vision_model.requires_grad_(True)

    def accumulated(inputs: dict[str, Tensor]) -> None:
        model.zero_grad(set_to_none=False)
        for part in split_rows(inputs, chunk):
            total(CLIP()(gather_batch(encode(part)))).backward()

    return {
        "plain": partial(step, keep_bytes=None),
        "chunks, nothing kept": partial(step, keep_bytes=0),
        "chunks, 256 MiB kept": partial(step, keep_bytes=256 * MIB),
        "chunks, 1 GiB kept (default)": partial(step, keep_bytes=KEEP_BYTES),
        "accumulation (another gradient)": accumulated,
        "frozen images, plain": partial(frozen, keep_bytes=None),
        "frozen images, chunks, 16 MiB kept": partial(frozen, keep_bytes=16 * MIB),
    }


def times(rows: int, chunk: int, rounds: int) -> str:
    inputs = make_inputs(rows)
    bound = {name: partial(way, inputs) for name, way in ways(make_model(), chunk).items()}
    seconds = paired(bound, rounds=rounds, clock=time.process_time)
    title = f"Batch {rows}, chunks of {chunk}, forward and backward, CPU time of one thread"
    return table(title, seconds)


def peak(way: str, rows: int, chunk: int) -> float:
    run, inputs = ways(make_model(), chunk)[way], make_inputs(rows)
    # Once, small: libraries and gradients take their memory.
    run({name: x[:8] for name, x in inputs.items()})
    before = high_water_mark()
    run(inputs)
    return (high_water_mark() - before) / 1024


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", type=int, default=[64, 128, 256, 512, 1024])
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", help="Way whose memory is measured in this process.")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.one:
        print(peak(args.one, args.rows[0], args.chunk))
        return
    print(times(128, args.chunk, args.rounds))
    print(f"\nPeak memory of one step in MiB, chunks of {args.chunk}\n")
    print("| way | " + " | ".join(f"batch {rows}" for rows in args.rows) + " |")
    print("| :-- " + "| --: " * len(args.rows) + "|")
    for way in ("plain", "chunks, nothing kept", "chunks, 1 GiB kept (default)"):
        cells = []
        for rows in args.rows:
            command = [sys.executable, "-m", "tests.benchmarks.chunked", str(rows), "--chunk", str(args.chunk)]
            run = subprocess.run([*command, "--one", way], capture_output=True, text=True, check=True)
            cells.append(f"{float(run.stdout.split()[-1]):.0f}")
        print(f"| {way} | {' | '.join(cells)} |", flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
