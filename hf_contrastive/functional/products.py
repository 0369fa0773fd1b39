"""Inner products of rows in full precision, by the fastest kernel at hand."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor


# Multiplications below which the call itself decides, and torch's is the shorter one.
FEW = 2**21


@torch.no_grad()
def row_products(
    x: Float[Tensor, "r d"], y: Float[Tensor, "c d"], *, out: Float[Tensor, "r c"] | None = None
) -> Float[Tensor, "r c"]:
    """`x @ y.T`, without a gradient, in `out` where it is given.

    Single precision on the CPU goes to oneDNN's linear layer, which uses all of a processor's vector width. `torch.mm`
    goes to MKL, which does so on Intel's processors alone: on AMD's Zen 5 it takes 2.3 times as long.
    """
    if x.dtype == y.dtype and len(x) * y.numel() >= FEW and has_fast_products(x.device, x.dtype):
        products: Tensor = torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")
        return products if out is None else out.copy_(products)
    # With `out`, autocast leaves it alone.
    return torch.mm(x, y.T, out=x.new_empty(len(x), len(y)) if out is None else out)


def has_fast_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products of this precision on this device go to oneDNN."""
    return device.type == "cpu" and dtype == torch.float32 and _has_onednn()


@cache
def _has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")
