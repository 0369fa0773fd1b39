"""Every registered loss on the GPU against itself on the CPU in double precision."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.losses import get_loss, total
from hf_contrastive.testing import random_output
from tests.losses.test_every_loss import LOSSES, OPTIONS


# Rows and width are such that no matrix is singular, and fp32 has digits to spare.
ROWS, WIDTH = 96, 16
THREE = ("audio", "image", "text")
ALL = [(info.name, {}) for info in LOSSES] + OPTIONS
# Largest relative error of the value, and of the gradient of embeddings by its norm.
TOLERANCES = {"fp32": (2e-5, 1e-4), "bf16": (2e-5, 2e-2), "fp16": (2e-5, 1e-4)}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def value_and_gradients(
    name: str, options: dict[str, Any], device: torch.device, dtype: torch.dtype, context: Any, absent: bool
) -> tuple[Tensor, list[Tensor]]:
    exact = random_output(ROWS, WIDTH, THREE if name == "symile" else ("image", "text"))
    leaves = [x.detach().to(device, dtype).requires_grad_() for x in (*exact.embeds.values(), *exact[1:])]
    output = EncoderOutput(dict(zip(exact.embeds, leaves, strict=False)), *leaves[-2:])
    present = None
    if absent:
        present = {m: torch.ones(ROWS, dtype=torch.bool, device=device) for m in exact.embeds}
        present["text"][::5] = False
    with context:
        value = total(get_loss(name, **options)(ContrastiveBatch.whole(output.embeds, *output[1:], present)))
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    assert value.dtype == dtype
    assert value.device.type == device.type
    return value.detach().double().cpu(), [g.double().cpu() for g in gradients]


@pytest.mark.parametrize("absent", [False, True], ids=["complete", "rows absent"])
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("name", "options"), ALL, ids=lambda x: x if isinstance(x, str) else str(list(x.values())))
def test_value_and_gradient_are_those_of_double_precision(
    device: torch.device, name: str, options: dict[str, Any], precision: str, absent: bool
):
    expected, wanted = value_and_gradients(name, options, torch.device("cpu"), torch.float64, nullcontext(), absent)
    context = torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()
    value, gradients = value_and_gradients(name, options, device, torch.float32, context, absent)
    of_value, of_gradient = TOLERANCES[precision]
    assert (value - expected).abs() <= of_value * expected.abs().clamp(min=1)
    size = torch.stack([g.norm() for g in wanted]).norm()
    for gradient, exact in zip(gradients, wanted, strict=True):
        assert (gradient - exact).norm() <= of_gradient * size
