"""Products of embeddings of several modalities.

Dimension key: n = rows, d = embedding width.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import working_dtype


def multilinear_inner_product(embeds: Sequence[Float[Tensor, "n d"]]) -> Float[Tensor, "n"]:
    r"""$\sum_k \prod_m z^m_{ik}$ of each row, the inner product of any number of vectors.

    Source: Saporta et al. 2024, their multilinear inner product, https://huggingface.co/papers/2411.01053.

    Args:
        embeds: Rows of each modality.

    >>> multilinear_inner_product([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.5]])])
    tensor([7.])
    """
    return reduce(torch.mul, _at_least_single(embeds)).sum(dim=1)


def shifted_rows(num_rows: int, num_modalities: int) -> list[int]:
    """By how many rows to shift each modality so that a row of the product is of as many items as can be.

    Args:
        num_rows: Rows of each modality.
        num_modalities: Modalities that are multiplied.

    Returns:
        Numbers that differ by at least one modulo `num_rows` wherever there are that many rows. The first is zero.

    >>> shifted_rows(10, 3)
    [0, 3, 6]
    """
    step = max(num_rows // num_modalities, 1)
    return [step * place for place in range(num_modalities)]


def shifted_products(embeds: Sequence[Float[Tensor, "n d"]]) -> Float[Tensor, "n d"]:
    """Products over modalities of rows of different items: row j of the first with shifted rows of the others.

    Args:
        embeds: Rows of each modality, those of an item at the same place.
    """
    shifts = shifted_rows(len(embeds[0]), len(embeds))
    return reduce(
        torch.mul, [x.roll(-shift, dims=0) for x, shift in zip(_at_least_single(embeds), shifts, strict=True)]
    )


def _at_least_single(embeds: Sequence[Tensor]) -> list[Tensor]:
    return [x.to(working_dtype(*embeds)) for x in embeds]
