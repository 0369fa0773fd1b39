"""How many candidates a softmax over cosines really chooses among.

Dimension key: q = queries, k = keys, d = embedding width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings, check_positive, check_same_width


# Logits that a chunk of queries may hold at a time: 16 MiB in single precision.
CHUNK_LOGITS = 2**22


def softmax_perplexity(
    queries: Float[Tensor, "q d"], keys: Float[Tensor, "k d"], scale: float, *, normalize: bool = True
) -> Float[Tensor, "q"]:
    r"""Number of keys that each query's softmax weighs, $e^{H(p_i)}$ with $p_{ij} \propto e^{s\, q_i \cdot k_j}$.

    Between 1, where a query is certain, and k, where all keys look alike.

    Args:
        queries: Rows that choose.
        keys: Rows to choose from.
        scale: Inverse temperature $s$.
        normalize: Whether to scale rows to unit length first.

    >>> softmax_perplexity(torch.eye(2), torch.ones(3, 2), 5.0)
    tensor([3., 3.])
    """
    check_positive(scale, "scale")
    queries = as_embeddings(queries, "queries", normalize=normalize)
    keys = as_embeddings(keys, "keys", normalize=normalize)
    check_same_width(queries, keys, "`queries` and `keys`")
    perplexity = queries.new_empty(len(queries))
    step = max(1, CHUNK_LOGITS // len(keys))
    with torch.autocast(queries.device.type, enabled=False):
        for start in range(0, len(queries), step):
            rows = slice(start, start + step)
            shares = (queries[rows] @ keys.T * scale).softmax(dim=1)
            perplexity[rows] = torch.special.entr(shares).sum(dim=1).exp()
    return perplexity
