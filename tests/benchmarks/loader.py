"""Rows a second of datasets and collators, and how many of them a training step takes.

    python -m tests.benchmarks.loader [--rows 256] [--rounds 3]

JPEGs of 500 x 375 pixels, noise and shapes, made on the spot. One thread; the stages on one core, the loader with
workers in wall time.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageDraw
from torch.utils.data import DataLoader
from transformers import CLIPConfig, CLIPModel, CLIPProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from hf_contrastive.data import ContrastiveCollator, PairDataset
from hf_contrastive.data.images import pixel_values
from hf_contrastive.encoder import contrastive_forward
from hf_contrastive.losses import CLIP, total
from hf_contrastive.models.from_scratch import SmallCLIPSize, small_clip
from hf_contrastive.testing import batch_of
from tests.benchmarks.timing import machine, paired


SIZE, BATCH = (500, 375), 32


def photograph(row: int) -> bytes:
    """A JPEG of shapes under noise: about as many bytes as a photograph of its size."""
    rng = np.random.default_rng(row)
    image = PILImage.new("RGB", SIZE, tuple(map(int, rng.integers(0, 256, 3))))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, w, h = map(int, rng.integers(0, SIZE[1], 4))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=tuple(map(int, rng.integers(0, 256, 3))))
    noisy = np.asarray(image) + rng.normal(0, 8, (SIZE[1], SIZE[0], 3))
    buffer = io.BytesIO()
    PILImage.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def make_pairs(rows: int) -> PairDataset:
    columns = {
        "image": [{"bytes": photograph(row), "path": None} for row in range(rows)],
        "caption": [f"a photograph of {row % 10} shapes on a plain ground, number {row}" for row in range(rows)],
    }
    kinds = Features({"image": Image(), "caption": Value("string")})
    return PairDataset(Dataset.from_dict(columns, features=kinds))


def rate(examples: int, seconds: Sequence[float]) -> str:
    return f"{examples / statistics.median(seconds):.0f}"


def stages(pairs: PairDataset, collators: dict[str, ContrastiveCollator]) -> str:
    """Decoding, processing and tokenizing, in turn on one core."""
    examples = pairs.__getitems__(range(BATCH))
    images, texts = [e["image"] for e in examples], [e["text"] for e in examples]
    processor: Any = collators["Hugging Face's way"].processor
    processors = {"CLIP": processor.image_processor, "SigLIP": SiglipImageProcessorPil()}
    ways: dict[str, Callable[[], object]] = {"read and decode": lambda: pairs.__getitems__(range(BATCH))}
    for name, images_processor in processors.items():
        ways[f"{name}'s image processor"] = lambda p=images_processor: p(images, return_tensors="pt")
        ways[f"{name}, fast way"] = lambda p=images_processor: pixel_values(p, images)
    ways["tokenizer"] = lambda: processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    for name, collator in collators.items():
        ways[f"collator, {name}"] = lambda c=collator: c(examples)
    seconds = paired(ways, rounds=9, clock=time.process_time)
    lines = [f"{BATCH} rows, CPU time of one thread", "", "| stage | ms a row | rows/s |", "| :-- | --: | --: |"]
    for name, values in seconds.items():
        lines.append(f"| {name} | {1000 * statistics.median(values) / BATCH:.2f} | {rate(BATCH, values)} |")
    lines.append("")
    for name, p in processors.items():
        slow, quick = seconds[f"{name}'s image processor"], seconds[f"{name}, fast way"]
        ratio = statistics.median(a / b for a, b in zip(slow, quick, strict=True))
        difference = (p(images, return_tensors="pt")["pixel_values"] - pixel_values(p, images)).abs().max()
        lines.append(
            f"{name}'s image processor takes {ratio:.2f} times the fast way, largest difference {difference}."
        )
    return "\n".join(lines)


def loaders(pairs: PairDataset, collators: dict[str, ContrastiveCollator], rounds: int) -> str:
    """Whole loaders with workers, in wall time."""

    def read(collator: ContrastiveCollator, workers: int) -> None:
        for _ in DataLoader(pairs, batch_size=BATCH, collate_fn=collator, num_workers=workers):
            pass

    lines = [
        f"The loader, {len(pairs)} rows in batches of {BATCH}, wall time, start of the workers included",
        "",
        "| workers | " + " | ".join(f"{name}, rows/s" for name in collators) + " | ratio |",
        "| --: |" + " --: |" * (len(collators) + 1),
    ]
    for workers in (0, 1, 2):
        ways = {name: (lambda c=c, workers=workers: read(c, workers)) for name, c in collators.items()}
        seconds = paired(ways, rounds=rounds)
        slow, quick = seconds.values()
        ratio = statistics.median(a / b for a, b in zip(slow, quick, strict=True))
        lines.append(f"| {workers} | {rate(len(pairs), slow)} | {rate(len(pairs), quick)} | {ratio:.2f} |")
    return "\n".join(lines)


def step_time(model: CLIPModel, inputs: dict[str, torch.Tensor]) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        with contrastive_forward(model):
            output = model(**inputs)
        total(CLIP()(batch_of(output))).backward()
        optimizer.step()
        optimizer.zero_grad()

    return paired({"step": step}, rounds=3, clock=time.process_time)["step"]


def vit_small(vocabulary: int) -> CLIPModel:
    """A CLIP of 30 million weights: ViT-S/32 at 224 pixels, six layers of text."""
    tower = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
    vision = tower | {"num_hidden_layers": 12, "image_size": 224, "patch_size": 32}
    text = tower | {"num_hidden_layers": 6, "vocab_size": vocabulary, "max_position_embeddings": 77}
    text |= {"bos_token_id": 0, "eos_token_id": vocabulary - 1, "pad_token_id": 1}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=256))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    pairs = make_pairs(args.rows)
    _, small = small_clip(pairs.captions, SmallCLIPSize())
    processor = CLIPProcessor(CLIPImageProcessorPil(), small.tokenizer)
    collators = {
        "Hugging Face's way": ContrastiveCollator(processor=processor, fast_images=False),
        "fast way": ContrastiveCollator(processor=processor),
    }
    size = statistics.mean(len(photograph(row)) for row in range(8))
    print(f"JPEGs of {SIZE[0]} x {SIZE[1]}, {size / 1024:.0f} KiB each, {os.cpu_count()} cores\n")
    print(stages(pairs, collators), "\n")
    print(loaders(pairs, collators, args.rounds), "\n")
    model = vit_small(len(small.tokenizer))
    seconds = step_time(model, collators["fast way"](pairs.__getitems__(range(BATCH))))
    weights = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"A step of a CLIP of {weights:.0f} million weights (ViT-S/32) with {BATCH} rows takes "
        f"{statistics.median(seconds):.2f} s of CPU time of one thread: {BATCH / statistics.median(seconds):.1f} rows/s.\n"
    )
    print(machine())


if __name__ == "__main__":
    main()
