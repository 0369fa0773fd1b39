"""Classification by the nearest class prototype.

Dimension key: n = rows, C = classes, d = embedding width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.functional.checks import check_labels
from hf_contrastive.functional.probes import mean_per_class
from hf_contrastive.functional.retrieval import retrieval_ranks


class ClassAccuracy(NamedTuple):
    """
    Accuracy of a classifier and its reference.

    Args:
        accuracy: Share of rows whose class is among the first k.
        mean_per_class: The same within each class that occurs, averaged over classes.
        chance: What a random order of the classes comes to, k over their number.
    """

    accuracy: Float[Tensor, ""]
    mean_per_class: Float[Tensor, ""]
    chance: Float[Tensor, ""]


@torch.no_grad()
def zero_shot_accuracy(
    x: Float[Tensor, "n d"],
    prototypes: Float[Tensor, "C d"],
    labels: Int[Tensor, "n"],
    *,
    k: int = 1,
    chunk_size: int | None = None,
) -> ClassAccuracy:
    """Share of rows whose class has one of the k prototypes of highest cosine. Equal prototypes share their places.

    Source: Radford et al. 2021, Section 3.1, https://huggingface.co/papers/2103.00020.

    Args:
        x: Rows to classify.
        prototypes: One row per class, as [`class_prototypes`] makes them.
        labels: Classes of the rows, from 0.
        k: Classes that may be named.
        chunk_size: Rows whose scores are held at a time. By default as many as fit 16 MiB.

    >>> zero_shot_accuracy(torch.eye(2), torch.eye(2), torch.tensor([0, 0]))
    ClassAccuracy(accuracy=tensor(0.5000, dtype=torch.float64), mean_per_class=tensor(0.5000, dtype=torch.float64), chance=tensor(0.5000, dtype=torch.float64))
    """
    num_classes = len(prototypes)
    if not 1 <= k <= num_classes:
        raise ValueError(f"`k` must be between 1 and {num_classes}, the number of classes, but got {k}.")
    check_labels(labels, len(x), num_classes)
    classes = torch.arange(num_classes, device=labels.device)
    hits = retrieval_ranks(x, prototypes, query_ids=labels, key_ids=classes, chunk_size=chunk_size).hits(k)
    return ClassAccuracy(hits.mean(), mean_per_class(hits, labels.to(hits.device)), hits.new_tensor(k / num_classes))
