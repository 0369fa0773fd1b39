"""How often the nearest class prototype is that of an embedding's class, beside chance."""

from collections.abc import Sequence
from typing import Any

import torch

from hf_contrastive.functional import checks, zero_shot_accuracy
from hf_contrastive.metrics import arrays, embedding_module


class ZeroShotAccuracy(embedding_module.EmbeddingModule):
    description = (
        "Accuracy of classification by the nearest class prototype, such as the embedding of a prompt that names the "
        "class, over all rows and averaged over classes, beside chance. Equal prototypes share their places."
    )
    inputs_description = """
Args:
    predictions: Embeddings to classify, shape (n, width).
    references: Class of each row, a whole number from 0.
    prototypes (`array`): One embedding per class, shape (classes, width).
    ks (`list[int]`, *optional*, defaults to `[1]`): Classes that may be named.
Returns:
    `zero_shot_accuracy@k`: Share of rows whose class has one of the k nearest prototypes.
    `zero_shot_mean_per_class@k`: The same within each class that occurs, averaged over classes.
    `zero_shot_chance@k`: What a random order of the classes comes to, k over their number.
Examples:
    >>> accuracy = hf_contrastive.load_metric("zero_shot_accuracy")
    >>> prompts = [[1.0, 0.0], [0.0, 1.0]]
    >>> accuracy.compute(predictions=[[0.9, 0.1], [0.8, 0.3]], references=[0, 1], prototypes=prompts)["zero_shot_accuracy@1"]
    0.5
"""
    citation = """\
@inproceedings{radford2021learning,
  title={Learning Transferable Visual Models From Natural Language Supervision},
  author={Radford, Alec and Kim, Jong Wook and Hallacy, Chris and others},
  booktitle={International Conference on Machine Learning},
  year={2021}
}
"""
    reference_url = "https://huggingface.co/papers/2103.00020"
    labels = ("references",)
    unused = ()

    @staticmethod
    def measure(
        x: torch.Tensor, classes: torch.Tensor, *, prototypes: Any, ks: Sequence[int] = (1,)
    ) -> dict[str, float]:
        prompts = checks.as_embeddings(arrays.as_embeddings(prototypes, "prototypes").to(x), "prototypes")
        values: dict[str, torch.Tensor] = {}
        for k in ks:
            found = zero_shot_accuracy(x, prompts, classes, k=k)
            values[f"zero_shot_accuracy@{k}"] = found.accuracy
            values[f"zero_shot_mean_per_class@{k}"] = found.mean_per_class
            values[f"zero_shot_chance@{k}"] = found.chance
        return embedding_module.floats(values)
