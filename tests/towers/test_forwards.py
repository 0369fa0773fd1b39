"""Forward passes that are others for a while, and are the old ones afterwards."""

import pytest
import torch
from torch import nn

from hf_contrastive.towers.forwards import evaluation_mode, replaced_forward


@pytest.mark.parametrize("fails", [False, True])
def test_parts_that_were_trained_are_trained_again(fails: bool):
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    model.train()[1].eval()
    before = [part.training for part in model.modules()]
    assert before == [True, True, False, False, False]
    try:
        with evaluation_mode(model):
            assert not any(part.training for part in model.modules())
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert [part.training for part in model.modules()] == before


def test_a_forward_is_replaced_for_a_while():
    module = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    expected = module(x)
    with replaced_forward(module, lambda _: "outer"):
        with replaced_forward(module, lambda _: "inner"):
            assert module(x) == "inner"
        assert module(x) == "outer"
    assert torch.equal(module(x), expected)
    assert "forward" not in vars(module)
