"""Two models of one kind are the same, or told apart by what differs."""

import copy
from typing import Any

import pytest
import torch

from hf_contrastive.export import DifferentExportError
from hf_contrastive.export.comparing import check_same
from tests.conftest import tiny_clip, tiny_siglip


def changed(model: Any, name: str, by: float) -> Any:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_parameter(name).add_(by)
    return other


def test_a_copy_is_the_same():
    model = tiny_siglip().eval()
    check_same(model, copy.deepcopy(model), model)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("visual_projection.weight", "The image embeddings"),
        ("text_projection.weight", "The text embeddings"),
        ("logit_scale", "logit_scale"),
    ],
)
def test_a_clip_that_differs_is_told_by_what(name: str, told: str):
    model = tiny_clip().eval()
    with torch.random.fork_rng():
        other = changed(model, name, 1e-2)
        if "projection" in name:  # not by a constant alone
            other.get_parameter(name).data.mul_(torch.rand_like(other.get_parameter(name)) + 0.5)
    with pytest.raises(DifferentExportError, match=told):
        check_same(model, other, model)


def test_a_bias_that_differs_is_told():
    model = tiny_siglip().eval()
    with pytest.raises(DifferentExportError, match="logit_bias"):
        check_same(model, changed(model, "logit_bias", 1.0), model)
