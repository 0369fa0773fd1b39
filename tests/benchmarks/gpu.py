"""Losses and training steps on a GPU.

    python -m tests.benchmarks.gpu [loss step overhead waits] [--device cuda] [--tiny]

`loss`: CLIP's loss, forward and backward, by tiles of several sizes beside Hugging Face's, time and peak memory.
`step`: training steps of the recipe's model and of a CLIP of ViT-B/32's size in bfloat16, beside the plain Trainer's.
`overhead`: steps of a CLIP so small that only the trainers' own time shows.
`waits`: how often a step waits for the GPU, and where.

`--tiny` with `--device cpu` only shows that it runs.
"""

import argparse
import contextlib
import gc
import io
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, Trainer, TrainerCallback, TrainingArguments, set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.functional import PairMask, paired_log_partitions, tiles
from tests.benchmarks.losses import Way, clip_of_hugging_face, random_pairs
from tests.benchmarks.losses_accuracy import hard_pairs
from tests.benchmarks.timing import machine
from tests.conftest import tiny_clip
from tests.towers.test_frozen import CHECKPOINTING


WIDTH = 512
TILES = (8192, 4096, 2048, 1024, 512)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parts = {"loss": loss_tables, "step": step_tables, "overhead": overhead_table, "waits": waits_table}
    parser.add_argument("parts", nargs="*", help=f"Some of {list(parts)}, by default all.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; {machine()}\n")
    for part in args.parts or parts:
        start = time.perf_counter()
        try:
            parts[part](device, args.tiny)
        except Exception:  # the others are worth having
            print(f"\n{part} FAILED\n{traceback.format_exc(limit=-6)}", flush=True)
        clean_up(device)
        print(f"\n({part}: {time.perf_counter() - start:.0f} s)\n", flush=True)


# ---- Losses ----


def loss_tables(device: torch.device, tiny: bool) -> None:
    sizes = (256, 512) if tiny else (4096, 16384, 65536)
    for name, tf32, half in (("fp32", False, False), ("bf16 autocast", False, True), ("fp32, TF32", True, False)):
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        print(
            f"CLIP's loss of N x {WIDTH}, forward and backward, {name}: ms / peak MiB beside the inputs; error of the"
        )
        print(f"gradient (N = {sizes[0]}) against double precision\n")
        print("| way | " + " | ".join(f"N = {n}" for n in sizes) + " | error |")
        print("| :-- " + "| --: " * (len(sizes) + 1) + "|")
        for way, run in loss_ways(device, tiny).items():
            cells = [timed_loss(under_autocast(run, device, half), n, device) for n in sizes]
            error = gradient_error(under_autocast(run, device, half), sizes[0], device)
            print(f"| {way} | {' | '.join(cells)} | {error} |", flush=True)
        print()
    torch.set_float32_matmul_precision("highest")


def loss_ways(device: torch.device, tiny: bool) -> dict[str, Way]:
    default = tiles.ACCELERATOR_TILE
    ways: dict[str, Way] = {"Hugging Face": clip_of_hugging_face}
    if not tiny:
        ways |= {"Hugging Face, compiled": torch.compile(clip_of_hugging_face)}
    ways |= {f"tiles of {default}, 256 MiB kept (default)": partial(tiled_clip, tile=default)}
    ways |= {f"tiles of {default}, 20 GiB kept": partial(tiled_clip, tile=default, keep_bytes=20 * 2**30)}
    ways |= {f"tiles of {t}": partial(tiled_clip, tile=t, keep_bytes=0) for t in TILES}
    if hasattr(F, "linear_cross_entropy"):
        ways |= {"torch linear_cross_entropy twice": linear_cross_entropies}
    else:
        print(f"torch {torch.__version__} has no linear_cross_entropy, so it is left out.\n")
    return ways


def tiled_clip(x: Tensor, y: Tensor, scale: Tensor, *, tile: int, **options: int) -> Tensor:
    # The backward pass asks for the size again: `timed_loss` goes backward within this call's patch.
    tiles.ACCELERATOR_TILE = tiles.TILE = tile
    rows, columns, paired = tiles_clip(x, y, scale, **options)
    return ((rows + columns) / 2 - paired).mean()


def tiles_clip(x: Tensor, y: Tensor, scale: Tensor, **options: int) -> Any:
    return paired_log_partitions(
        x, y, scale, mask=PairMask(positives=torch.arange(len(x), device=x.device)), **options
    )


def linear_cross_entropies(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    target, options = torch.arange(len(x), device=x.device), torch.nn.LinearCrossEntropyOptions()
    ways = [F.linear_cross_entropy(a * scale, b, target, options=options) for a, b in ((x, y), (y, x))]
    return (ways[0] + ways[1]) / 2


def under_autocast(way: Way, device: torch.device, enabled: bool) -> Way:
    def run(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            return way(x, y, scale)

    return run


@cache
def rows_on(device: torch.device, rows: int, hard: bool) -> tuple[Tensor, Tensor]:
    x, y = (hard_pairs if hard else random_pairs)(rows, WIDTH)
    return x.to(device), y.to(device)


def leaves_of(
    rows: int, device: torch.device, dtype: torch.dtype = torch.float32, *, hard: bool = False
) -> list[Tensor]:
    pairs = rows_on(device, rows, hard)
    return [z.to(device, dtype, copy=True).requires_grad_() for z in (*pairs, torch.tensor(50.0 if hard else 20.0))]


def timed_loss(way: Way, rows: int, device: torch.device) -> str:
    """Median milliseconds and peak MiB, or what went wrong."""
    try:
        with mock.patch.multiple(tiles, TILE=tiles.TILE, ACCELERATOR_TILE=tiles.ACCELERATOR_TILE):
            leaves = leaves_of(rows, device)
            for leaf in leaves:
                leaf.grad = torch.zeros_like(leaf)

            def run() -> None:
                way(*leaves).backward()

            run()
            before = reset_peak(device)
            run()
            peak = peak_mib(device, before)
            return f"{milliseconds(run, device, 3 if rows > 20_000 else 7):.2f} / {peak:.0f}"
    except torch.OutOfMemoryError:
        return "out of memory"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    finally:
        clean_up(device, compiled=False)


def gradient_error(way: Way, rows: int, device: torch.device) -> str:
    with mock.patch.multiple(tiles, TILE=tiles.TILE, ACCELERATOR_TILE=tiles.ACCELERATOR_TILE):
        try:
            exact = torch.autograd.grad(
                clip_on(*(leaves := leaves_of(rows, device, torch.float64, hard=True))), leaves[:2]
            )
            found = torch.autograd.grad(way(*(leaves := leaves_of(rows, device, hard=True))), leaves[:2])
        except Exception as error:
            return type(error).__name__
    return f"{max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)):.1e}"


def clip_on(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    rows, columns, paired = tiles_clip(x, y, scale)
    return ((rows + columns) / 2 - paired).mean()


def milliseconds(run: Callable[[], None], device: torch.device, rounds: int) -> float:
    """Median of several rounds after one more."""
    times = []
    for turn in range(rounds + 1):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            seconds = start.elapsed_time(end) / 1000
        else:
            begin = time.perf_counter()
            run()
            seconds = time.perf_counter() - begin
        if turn:
            times.append(1000 * seconds)
    return statistics.median(times)


def reset_peak(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak_mib(device: torch.device, before: int = 0) -> float:
    return (torch.cuda.max_memory_allocated() - before) / 2**20 if device.type == "cuda" else 0.0


def clean_up(device: torch.device, *, compiled: bool = True) -> None:
    if compiled:
        torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


# ---- Steps ----


class StepTimes(TrainerCallback):
    """Time from one step's end to the next's: marks in the GPU's own queue, read when training is over."""

    def __init__(self, device: torch.device, skip: int) -> None:
        self.device, self.skip, self.marks = device, skip, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self.device.type == "cuda":
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def milliseconds(self) -> float:
        marks = self.marks[self.skip :]
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return statistics.median(a.elapsed_time(b) for a, b in pairwise(marks))
        return statistics.median(1000 * (b - a) for a, b in pairwise(marks))


def trainer_of(
    kind: str, model: Any, inputs: dict[str, Tensor], folder: str, device: torch.device, **options: Any
) -> Trainer:
    """A Trainer (`plain`) or ours, whose batches are `inputs`, which lie on the device already."""
    rows = len(next(iter(inputs.values())))
    common: dict[str, Any] = {
        "per_device_train_batch_size": rows,
        "logging_steps": 1000,
        "use_cpu": device.type == "cpu",
    }
    common |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
    common |= {"remove_unused_columns": False}
    data = list(range(rows * 4))
    if kind == "plain":
        return Trainer(
            model,
            TrainingArguments(folder, **(common | options)),
            train_dataset=data,
            data_collator=lambda _: inputs | {"return_loss": True},
        )
    settings = {"loss": "clip", "log_geometry": False, "negatives_audit": False} | common | options
    args = ContrastiveTrainingArguments(folder, **settings)
    return ContrastiveTrainer(model, args, train_dataset=data, data_collator=lambda _: dict(inputs))


def text_and_images(rows: int, model: CLIPModel, device: torch.device) -> dict[str, Tensor]:
    text, vision = model.config.text_config, model.config.vision_config
    generator = torch.Generator(device).manual_seed(0)
    shape = (rows, text.max_position_embeddings)
    ids = torch.randint(2, text.vocab_size - 1, shape, generator=generator, device=device)
    ids[:, -1] = text.eos_token_id
    pixels = torch.randn(rows, 3, vision.image_size, vision.image_size, generator=generator, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def recipe_model() -> CLIPModel:
    """The shape of `small_clip`."""
    set_seed(0)
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    text = tower | {"num_hidden_layers": 3, "vocab_size": 2000, "max_position_embeddings": 40, "eos_token_id": 1999}
    vision = tower | {"num_hidden_layers": 4, "image_size": 64, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def large_model() -> CLIPModel:
    """ViT-B/32's shape, with random weights."""
    set_seed(0)
    return CLIPModel(CLIPConfig())


def step_tables(device: torch.device, tiny: bool) -> None:
    chunks = {"encode_keep_bytes": 0}
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "Trainer": ("plain", {}),
        "ContrastiveTrainer, clip": ("ours", {}),
        "the default loss": ("ours", {"loss": "clip_divergence"}),
        "clip, in 4 chunks, 1 GiB kept": ("ours", {"parts": 4}),
        "clip, in 4 chunks, nothing kept": ("ours", {"parts": 4, **chunks}),
        "clip, gradient checkpointing": ("ours", {CHECKPOINTING: True}),
        "Trainer, compiled": ("plain", {"torch_compile": True}),
        "clip, compiled": ("ours", {"torch_compile": True}),
    }
    backend = {} if device.type == "cuda" else {"torch_compile_backend": "eager"}
    models: dict[str, tuple[Callable[[], CLIPModel], tuple[int, ...]]] = {
        "the recipe's CLIP": (recipe_model, (256, 1024)),
        "a CLIP of ViT-B/32's size": (large_model, (256, 1024)),
    }
    if tiny:
        models = {"the recipe's CLIP": (recipe_model, (8,))}
    steps, skip = (4, 1) if tiny else (13, 4)
    for name, (make, batches) in models.items():
        for batch in batches:
            print(f"Steps of {name}, batch {batch}, bfloat16 autocast, AdamW: median of {steps - skip - 1}\n")
            print("| way | ms a step | rows/s | peak MiB | seconds in all |\n| :-- | --: | --: | --: | --: |")
            for way, (kind, options) in ways.items():
                if options and make is large_model and batch < max(batches) and "loss" not in options:
                    continue
                if options.get("torch_compile"):
                    if (kind == "plain" and make is large_model) or (batch < max(batches)):
                        continue
                    options = options | backend
                elif kind == "ours" and "parts" in options:
                    options = {n: x for n, x in options.items() if n != "parts"} | {"encode_chunk_size": batch // 4}
                print(
                    f"| {way} | {timed_steps(kind, make, batch, device, steps, skip, bf16=True, **options)} |",
                    flush=True,
                )
            print()


def timed_steps(
    kind: str, make: Callable[[], CLIPModel], batch: int, device: torch.device, steps: int, skip: int, **options: Any
) -> str:
    """Cells of the table, or what went wrong."""
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            with device:
                model = make()
            trainer = trainer_of(
                kind, model, text_and_images(batch, model, device), folder, device, max_steps=steps, **options
            )
            clock = StepTimes(device, skip)
            trainer.add_callback(clock)
            reset_peak(device)
            with silent():
                trainer.train()
            took = clock.milliseconds()
        return f"{took:.1f} | {1000 * batch / took:.0f} | {peak_mib(device):.0f} | {time.perf_counter() - begin:.0f}"
    except Exception as error:
        traceback.print_exc(limit=-6, file=sys.stdout)
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]} | | | {time.perf_counter() - begin:.0f}"
    finally:
        torch.set_float32_matmul_precision("highest")
        trainer = model = clock = None
        clean_up(device)


def silent() -> Any:
    """Without the Trainer's prints of logs."""
    return contextlib.redirect_stdout(io.StringIO())


def overhead_table(device: torch.device, tiny: bool) -> None:
    steps, rounds = (6, 1) if tiny else (120, 3)
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "Trainer": ("plain", {}),
        "ContrastiveTrainer, clip": ("ours", {}),
        "the default loss": ("ours", {"loss": "clip_divergence"}),
        "bf16": ("ours", {"bf16": True}),
        "fp16": ("ours", {"fp16": True}),
        "a queue of 1,024": ("ours", {"queue_size": 1024, "queue_start": 0.0}),
        "moving average": ("ours", {"ema_decay": 0.99}),
        "geometry logged every 10 steps": ("ours", {"log_geometry": True, "logging_steps": 10}),
    }
    if device.type == "cpu":
        del ways["fp16"]
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (kind, options) in ways.items():
            cells = timed_steps(kind, tiny_clip_of_one_layer, 8, device, steps, 2, **options)
            head = cells.split(" | ")[0]
            found[name].append(float(head) if head.replace(".", "").isdigit() else float("nan"))
    print(f"Steps of a tiny CLIP, batch 8: medians of {steps}, median of {rounds} runs\n")
    print("| way | ms a step | more than the Trainer's |\n| :-- | --: | --: |")
    for name, values in found.items():
        more = statistics.median(a - b for a, b in zip(values, found["Trainer"], strict=True))
        print(f"| {name} | {statistics.median(values):.2f} | {more:.2f} |")


def tiny_clip_of_one_layer() -> CLIPModel:
    set_seed(0)
    return tiny_clip()


# ---- Waits ----


class CountWaits(TrainerCallback):
    """Has torch warn of each wait between the ends of two steps."""

    def __init__(self, device: torch.device, first: int, last: int) -> None:
        self.device, self.first, self.last = device, first, last

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if self.device.type == "cuda" and state.global_step in (self.first, self.last):
            torch.cuda.set_sync_debug_mode("warn" if state.global_step == self.first else "default")


def waits_table(device: torch.device, tiny: bool) -> None:
    steps = 8
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        "Trainer": ("plain", {}),
        "Trainer, fp16": ("plain", {"fp16": True}),
        "ContrastiveTrainer, clip": ("ours", {}),
        "clip, bf16": ("ours", {"bf16": True}),
        "clip, fp16": ("ours", {"fp16": True}),
        "clip_divergence, bf16": ("ours", {"bf16": True, "loss": "clip_divergence"}),
        "info_nce with a queue": ("ours", {"loss": "info_nce", "queue_size": 64, "queue_start": 0.0}),
        "clip in chunks": ("ours", {"encode_chunk_size": 2, "encode_keep_bytes": 0}),
    }
    print("Waits for the GPU in a step of a tiny CLIP, batch 8\n")
    for name, (kind, options) in ways.items():
        if device.type == "cpu" and options.get("fp16"):
            continue
        places: Counter[str] = Counter()

        def note(message: Any, *_: Any, places: Counter[str] = places, **__: Any) -> None:
            if "synchronizing CUDA operation" in str(message):
                places[place_of(traceback.extract_stack())] += 1

        model = tiny_clip_of_one_layer()
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(
                kind, model, text_and_images(8, model, device), folder, device, max_steps=steps, **options
            )
            trainer.add_callback(CountWaits(device, steps - 5, steps - 1))
            with silent(), warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = note
                trainer.train()
        print(f"- {name}: {sum(places.values()) / 4:g} a step")
        for place, count in places.most_common(14):
            print(f"  - {count / 4:g} {place}")


def place_of(stack: traceback.StackSummary) -> str:
    """The innermost line of ours, of transformers or of accelerate on the way to a wait."""
    for frame in reversed(stack):
        for package in ("hf_contrastive", "transformers", "accelerate"):
            if f"/{package}/" in frame.filename:
                return f"{package}/{frame.filename.split(f'/{package}/')[-1]}:{frame.lineno} {str(frame.line)[:70]}"
    return Path(stack[-1].filename).name


if __name__ == "__main__":
    main()
