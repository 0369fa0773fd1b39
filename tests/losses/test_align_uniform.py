import pytest
from torch import Tensor

from hf_contrastive.losses import AlignUniform
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import Rows, assert_matches, log_mean_potential, on_every_batch


@on_every_batch
@pytest.mark.parametrize(("alpha", "t", "align_weight", "uniform_weight"), [(2, 2, 1, 1), (1, 3, 0.7, 0.2)])
def test_matches_the_code_of_the_paper(
    modalities: tuple[str, ...],
    missing: dict[str, list[int]],
    alpha: float,
    t: float,
    align_weight: float,
    uniform_weight: float,
):
    """Wang & Isola 2020, Figure 5: `align_loss` and `uniform_loss`."""

    def formula(rows: Rows, scale: Tensor, bias: Tensor) -> Tensor:
        pairs = [rows(first, second) for i, first in enumerate(modalities) for second in modalities[i + 1 :]]
        align = sum((x - y).norm(dim=1).pow(alpha).mean() for x, y in pairs) / len(pairs)
        spread = sum(log_mean_potential(*rows(m), t=t) for m in modalities) / len(modalities)
        return align_weight * align + uniform_weight * spread

    loss = AlignUniform(alpha=alpha, t=t, align_weight=align_weight, uniform_weight=uniform_weight)
    assert_matches(loss, formula, modalities, missing)


def test_both_terms_are_logged():
    assert list(AlignUniform()(batch_of(random_output()))) == ["alignment", "uniformity"]
