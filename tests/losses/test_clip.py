import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.losses import CLIP, InfoNCE, total
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import THREE, TWO, Rows, assert_matches, masks, on_every_batch


@on_every_batch
@pytest.mark.parametrize("keep_bytes", [2**28, 0])
def test_matches_the_pseudocode_of_the_paper(
    modalities: tuple[str, ...], missing: dict[str, list[int]], keep_bytes: int
):
    """Radford et al. 2021, Figure 3, averaged over pairs of modalities."""

    def formula(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        losses = []
        for i, first in enumerate(modalities):
            for second in modalities[i + 1 :]:
                x, y = rows(first, second)
                logits, labels = scale * x @ y.T, torch.arange(len(x))
                losses.append((F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2)
        return sum(losses) / len(losses)

    assert_matches(CLIP(keep_bytes=keep_bytes), formula, modalities, missing)


@pytest.mark.parametrize("missing", [{}, {"text": [0, 5, 6]}])
def test_is_info_nce_of_two_modalities(missing: dict[str, list[int]]):
    batch = batch_of(random_output(), masks(TWO, missing))
    torch.testing.assert_close(total(CLIP()(batch)), total(InfoNCE()(batch)), rtol=0, atol=1e-12)


def test_each_direction_is_logged_with_its_weight():
    output = random_output(modalities=THREE)
    terms = CLIP()(batch_of(output))
    assert set(terms) == {f"clip_{a}_to_{b}" for a in THREE for b in THREE if a != b}
    logits = output.logit_scale * output.embeds["text"] @ output.embeds["audio"].T
    expected = F.cross_entropy(logits, torch.arange(8)) / 6
    torch.testing.assert_close(terms["clip_text_to_audio"], expected, rtol=0, atol=1e-12)
