"""How many directions a cloud of embeddings uses."""

import torch
from jaxtyping import Float
from torch import Tensor

from hf_contrastive.functional.checks import as_embeddings


def spectrum(x: Float[Tensor, "n d"], *, normalize: bool = True) -> Float[Tensor, "d"]:
    """Eigenvalues of the covariance of the rows, largest first; shares of variance once divided by their sum.

    >>> spectrum(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    tensor([2., 0.])
    """
    x = as_embeddings(x, "x", min_rows=2, normalize=normalize)
    centered = x - x.mean(dim=0)
    with torch.autocast(x.device.type, enabled=False):
        return eigenvalues(centered.mT @ centered / (len(x) - 1))


def effective_rank(x: Float[Tensor, "n d"], *, normalize: bool = True) -> Float[Tensor, ""]:
    r"""Number of directions in use, $e^{H(p)}$ with p the shares of variance. Between 1 and d; 1 if collapsed.

    Source: Roy & Vetterli 2007, Definition 1 (on eigenvalues of the covariance).

    >>> effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    tensor(2.)
    """
    return directions_in_use(spectrum(x, normalize=normalize))


def eigenvalues(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d"]:
    """Eigenvalues of a covariance, largest first. Rounding may push vanishing ones below zero, so they are lifted."""
    return torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0)


def directions_in_use(variances: Float[Tensor, "d"]) -> Float[Tensor, ""]:
    """The exponential of the entropy of the shares of variance, see [`effective_rank`]."""
    shares = variances / variances.sum().clamp(min=torch.finfo(variances.dtype).tiny)
    # The entropy of a share of zero is zero, but its slope is infinite.
    return torch.special.entr(shares[shares > 0]).sum().exp()
