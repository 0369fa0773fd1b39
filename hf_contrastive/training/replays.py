"""Whether a chunk that is embedded a second time is what it was the first time: if not, the gradient is wrong."""

from collections.abc import Sequence

import torch
from torch import Tensor


# Largest difference between two passes' unit embeddings that rounding explains, in half precision.
TOLERANCE = 0.02


def largest_difference(again: Sequence[Tensor], first: Sequence[Tensor]) -> Tensor:
    """Largest absolute difference between the embeddings of two passes, by modality each, as a tensor of shape ()."""
    # Rows of absent modalities may be NaN.
    with torch.no_grad():
        return torch.stack([(x - y).nan_to_num().abs().max() for x, y in zip(again, first, strict=True)]).max()


def refuse_other_embeddings(differences: Sequence[float]) -> None:
    """
    Raise if the second pass of any process was not the first.

    Args:
        differences (`list[float]`):
            Largest difference on each process, in rank order.

    Raises:
        RuntimeError: One is larger than [`TOLERANCE`].
    """
    found = {rank: f"{difference:.2g}" for rank, difference in enumerate(differences) if not difference <= TOLERANCE}
    if not found:
        return
    where = "" if len(differences) == 1 else f" on process {', '.join(map(str, found))} of {len(differences)}"
    raise RuntimeError(
        f"The model returned other embeddings when a chunk was embedded again{where} (difference "
        f"{', '.join(found.values())}), so the gradient is wrong. Something in it counts its calls or draws random numbers "
        "from a generator of its own. Leave out `encode_chunk_size` and `accumulate_negatives`."
    )
