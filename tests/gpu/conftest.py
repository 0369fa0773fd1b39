"""Tests that need a GPU. With `GPU_TESTS_ON=cpu` they run on the CPU, as far as they make sense there."""

import os

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    name = os.environ.get("GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device(name)


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """The device of tests about what a CPU does not have."""
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    return device


@pytest.fixture(autouse=True)
def exact_products(device: torch.device) -> None:
    """Single precision is single precision, also after a test that trained with TF32 products."""
    torch.set_float32_matmul_precision("highest")
