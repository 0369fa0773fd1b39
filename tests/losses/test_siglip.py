import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.losses import SigLIP
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import Rows, assert_matches, on_every_batch


@on_every_batch
def test_matches_the_algorithm_of_the_paper(modalities: tuple[str, ...], missing: dict[str, list[int]]):
    """Zhai et al. 2023, Algorithm 1, averaged over pairs of modalities."""

    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        losses = []
        for i, first in enumerate(modalities):
            for second in modalities[i + 1 :]:
                x, y = rows(first, second)
                labels = 2 * torch.eye(len(x), dtype=torch.float64) - 1
                losses.append(-F.logsigmoid(labels * (scale * x @ y.T + bias)).sum() / len(x))
        return sum(losses) / len(losses)

    assert_matches(SigLIP(), formula, modalities, missing)


def test_a_model_without_bias_is_refused_with_the_remedy():
    batch = batch_of(random_output()._replace(logit_bias=None))
    with pytest.raises(ValueError, match=r"the model has no `logit_bias`\. Use a SigLIP model, or add"):
        SigLIP()(batch)
