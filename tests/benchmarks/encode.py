"""Texts of mixed length embedded by `encode`, by a plain loop, and by sentence-transformers, all with the same BERT.

    python -m tests.benchmarks.encode

CPU time of one thread, tokenizing included. All ways return the same rows.
"""

import argparse
import importlib.util
import random
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BertConfig, PreTrainedTokenizerFast, set_seed

from hf_contrastive.models import MultiEncoder, MultiEncoderProcessor
from hf_contrastive.models.from_scratch import train_tokenizer
from tests.benchmarks.timing import paired, table


WORDS = ("red", "green", "blue", "star", "house", "sea", "tree", "above", "below", "beside", "a", "the", "and")
LONGEST, BATCH = 128, 32


def texts(number: int) -> list[str]:
    """Most of a few words, some of many, as captions beside documents."""
    draw = random.Random(0)
    lengths = [min(LONGEST - 2, 3 + int(draw.expovariate(1 / 20))) for _ in range(number)]
    return [" ".join(draw.choices(WORDS, k=length)) for length in lengths]


def tower(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=LONGEST,
    )


def make(width: int, layers: int) -> MultiEncoder:
    set_seed(0)
    tokenizer = train_tokenizer([" ".join(WORDS)] * 4, vocab_size=400, max_tokens=LONGEST)
    towers = {"text": tower(tokenizer, width, layers), "other": 4}
    model = MultiEncoder.from_towers(towers, width=width, head={"text": "none"})
    model.processor = MultiEncoderProcessor.for_model(model, {"text": tokenizer})
    return model


@torch.inference_mode()
def by_hand(model: MultiEncoder, data: list[str]) -> np.ndarray:
    """The loop that a user writes: batches in the order of the data."""
    rows = []
    for start in range(0, len(data), BATCH):
        inputs = model.processor.tokenizer(
            data[start : start + BATCH], padding=True, truncation=True, return_tensors="pt"
        )
        inputs.pop("token_type_ids", None)
        tokens, mask = model.text_model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(2)
        rows.append(F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(rows).numpy()


def by_sentence_transformers(model: MultiEncoder, folder: str) -> Callable[[list[str]], np.ndarray]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    model.text_model.save_pretrained(folder)
    model.processor.tokenizer.save_pretrained(folder)
    encoder = Transformer(folder)
    peer = SentenceTransformer(modules=[encoder, Pooling(model.config.width), Normalize()], device="cpu")
    return lambda data: peer.encode(data, batch_size=BATCH, show_progress_bar=False)


def main(arguments: list[str] | None = None) -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = texts(options.texts)
    for width, layers in ((32, 2), (128, 4)):
        model = make(width, layers)
        ways = {
            "encode": lambda model=model: model.encode_text(data, batch_size=BATCH, to_numpy=True),
            "a plain loop": lambda model=model: by_hand(model, data),
        }
        with tempfile.TemporaryDirectory() as folder:
            if importlib.util.find_spec("sentence_transformers"):
                peer = by_sentence_transformers(model, folder)
                ways["sentence-transformers"] = lambda peer=peer: peer(data)
            expected = by_hand(model, data)
            for way in ways.values():
                np.testing.assert_allclose(way(), expected, rtol=0, atol=2e-6)
            title = f"{len(data)} texts of 5 to {LONGEST} tokens, BERT of width {width} and {layers} layers, CPU time"
            print(table(title, paired(ways, rounds=options.rounds, clock=time.process_time)), flush=True)


if __name__ == "__main__":
    main()
