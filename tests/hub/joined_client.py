"""Joined towers trained, pushed with their card and exported to the Hub of the environment, in one process.

What they make of pictures and texts is left in `rows.safetensors` of the folder that is given.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from hf_contrastive import ContrastiveTrainingArguments, MultiEncoder, PairDataset, push_folder
from hf_contrastive.data import PairSplits
from hf_contrastive.export import export
from hf_contrastive.recipe.run import make_trainer, save_runs, train_and_test
from hf_contrastive.report import check_card
from tests.conftest import make_pairs
from tests.export.cases import encoder


FOLDER = Path(sys.argv[1])
TEXTS = ["a red picture", "green", "something blue and something else"]
PICTURE = Image.new("RGB", (20, 30), "red")


def arguments(name: str) -> ContrastiveTrainingArguments:
    common: dict[str, Any] = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-2}
    common |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "loss": "clip"}
    return ContrastiveTrainingArguments(str(FOLDER / name), hub_model_id=f"tester/{name}", **common)


def train() -> MultiEncoder:
    """As a user: towers, a processor, two steps, one push."""
    model = encoder({"image": "vit", "text": "bert"}, pooling={"text": "pooler"})
    pairs = PairDataset(make_pairs(16))
    splits = PairSplits(train=pairs, validation=pairs, test=pairs)
    args = arguments("joined")
    run = train_and_test(make_trainer(model, model.processor, args, splits), splits.test, name="run")
    folder = save_runs([run], dataset="scenes", base_model=None, train_rows=16, pairs=splits)
    check_card(folder)
    push_folder(folder, args)
    return model.eval()


def main() -> None:
    model = train()
    with torch.no_grad():
        save_file(
            {"text": model.encode_text(TEXTS), "image": model.encode_image([PICTURE])}, FOLDER / "rows.safetensors"
        )
    for name, format in (("plain", "transformers"), ("texts", "sentence-transformers")):
        export(model, None, FOLDER / name, format, name=f"tester/{name}", card=FOLDER / "joined")
        check_card(FOLDER / name)
        push_folder(FOLDER / name, arguments(name))


if __name__ == "__main__":
    main()
