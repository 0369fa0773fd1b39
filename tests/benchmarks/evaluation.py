"""Time and memory of evaluating 20,000 rows with a tiny CLIP, each way in a process of its own."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, Trainer, TrainingArguments, set_seed

from hf_contrastive import ContrastiveTrainer, ContrastiveTrainingArguments
from hf_contrastive.training import evaluation as evaluation_module
from tests.benchmarks.timing import machine
from tests.conftest import IMAGE, LAYERS, TEXT


WIDTH, BATCH = 512, 64


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Model inputs made when they are read, so that data take no memory."""

    def __init__(self, num_rows: int, **more: Any) -> None:
        self.num_rows, self.more = num_rows, more

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < self.num_rows:
            raise IndexError(row)
        generator = torch.Generator().manual_seed(row)
        ids = torch.randint(2, 98, (6,), generator=generator)
        ids[-1] = 98
        return {"pixel_values": torch.randn(3, 8, 8, generator=generator), "input_ids": ids} | self.more


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {name: torch.stack([row[name] for row in rows]) for name in ("pixel_values", "input_ids")}
    return batch | ({"return_loss": True} if "return_loss" in rows[0] else {})


def model() -> CLIPModel:
    set_seed(0)
    text = LAYERS | TEXT | {"bos_token_id": 0, "eos_token_id": 98, "pad_token_id": 1}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=LAYERS | IMAGE, projection_dim=WIDTH))


def run(way: str, num_rows: int) -> None:
    """One evaluation; prints its CPU seconds and by how many MiB the process grew at most."""
    torch.set_num_threads(1)
    common = {"per_device_eval_batch_size": BATCH, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as folder:
        if way.startswith("Trainer"):
            args = TrainingArguments(folder, dataloader_pin_memory=False, remove_unused_columns=False, **common)
            trainer = Trainer(model(), args, data_collator=collate)
            data = Rows(num_rows, return_loss=True)
        else:
            if way.endswith("embeddings only"):
                evaluation_module.measure = lambda *_, **__: {}
            args = ContrastiveTrainingArguments(folder, loss="clip", **common)
            trainer = ContrastiveTrainer(model(), args, data_collator=collate)
            data = Rows(num_rows)
        trainer.predict(Rows(2 * BATCH, **data.more))  # what only the first call costs
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        if way == "Trainer.evaluate":
            trainer.evaluate(data)
        else:
            trainer.predict(data)
        seconds = time.process_time() - start
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


WAYS = {
    "Trainer.evaluate": "a loss that depends on the batch size",
    "Trainer.predict": "both logits of each batch, hidden states, embeddings",
    "ContrastiveTrainer, embeddings only": "embeddings",
    "ContrastiveTrainer": "embeddings, loss, geometry, retrieval in both directions",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way")
    options = parser.parse_args(arguments)
    if options.way:
        run(options.way, options.rows)
        return
    size = 2 * options.rows * WIDTH * 4 / 2**20
    print(f"{options.rows} rows, batches of {BATCH}, width {WIDTH}: embeddings take {size:.0f} MiB; one thread\n")
    print("| way | CPU seconds | growth of the process, MiB | what is there in the end |\n| :-- | --: | --: | :-- |")
    for way, result in WAYS.items():
        found = []
        for _ in range(options.rounds):
            command = [sys.executable, "-m", "tests.benchmarks.evaluation", "--way", way, "--rows", str(options.rows)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append([float(x) for x in output.strip().splitlines()[-1].split()])
        seconds, grown = min(found)
        print(f"| {way} | {seconds:.1f} | {grown:.0f} | {result} |", flush=True)
    print("\n" + machine())


if __name__ == "__main__":
    main()
