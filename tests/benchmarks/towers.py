"""Steps with the image tower trained, frozen, and frozen and cached; with and without a moving average.

    python -m tests.benchmarks.towers

CPU time of one thread: reading and resizing pictures, tokenizing captions and the trainer's construction included.
"""

import io
import tempfile
import time
from contextlib import redirect_stdout
from copy import deepcopy
from typing import Any

import torch
from transformers import set_seed

from hf_contrastive import ContrastiveCollator, ContrastiveTrainer, ContrastiveTrainingArguments, SmallCLIPSize
from hf_contrastive.models import small_clip
from hf_contrastive.towers.cache import CachedTowerCollator, cache_tower_embeddings
from tests.benchmarks.timing import paired, table
from tests.conftest import make_pairs


STEPS, BATCH, ROWS = 16, 32, 512


def main() -> None:
    torch.set_num_threads(1)
    set_seed(0)
    pairs = make_pairs(ROWS)
    model, processor = small_clip(pairs["caption"], SmallCLIPSize())
    both = ContrastiveCollator(processor=processor, columns={"images": "image", "text": "caption"})
    images, text = (
        ContrastiveCollator(processor=processor, columns=columns)
        for columns in ({"images": "image"}, {"text": "caption"})
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        cached = cache_tower_embeddings(pairs, model, "image", images, cache_dir=folder, progress=False)
        first = time.process_time() - start
        start = time.process_time()
        cache_tower_embeddings(pairs, model, "image", images, cache_dir=folder, progress=False)
        again = time.process_time() - start

        def train(dataset: Any, collator: Any, **options: Any) -> None:
            args = ContrastiveTrainingArguments(
                folder,
                use_cpu=True,
                disable_tqdm=True,
                report_to="none",
                save_strategy="no",
                loss="clip",
                log_geometry=False,
                per_device_train_batch_size=BATCH,
                max_steps=STEPS,
                logging_steps=STEPS,
                **options,
            )
            with redirect_stdout(io.StringIO()):  # the audit and the logs of each run
                ContrastiveTrainer(deepcopy(model), args, train_dataset=dataset, data_collator=collator).train()

        frozen = {"freeze_towers": ["image"]}
        ways = {
            "image tower trained": lambda: train(pairs, both),
            "the same with a moving average": lambda: train(pairs, both, ema_decay=0.999),
            "image tower frozen": lambda: train(pairs, both, **frozen),
            "image tower cached": lambda: train(
                cached.remove_columns("image"), CachedTowerCollator(text, ("image",)), **frozen
            ),
        }
        title = f"{STEPS} steps of {BATCH} pairs, small CLIP, pictures of 64 x 64, CPU time of one thread"
        print(table(title, paired(ways, rounds=5, clock=time.process_time)))
        print(f"\nThe cache of {ROWS} rows took {first:.2f} s to make and {again:.3f} s to find again.")


if __name__ == "__main__":
    main()
