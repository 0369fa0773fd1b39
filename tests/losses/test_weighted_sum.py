import pytest
import torch
import yaml

from hf_contrastive.losses import CLIP, AlignUniform, Schedule, get_loss, total
from hf_contrastive.losses.weighted_sum import WeightedSum
from hf_contrastive.testing import batch_of, random_output


PARTS = """
- {name: clip}
- {name: align_uniform, weight: {start: 0, end: 0.5, begin: 0.5}, options: {t: 3}}
- {name: align_uniform, weight: 2, label: blunt}
"""


def test_is_the_sum_of_its_parts_each_logged_under_its_label():
    batch = batch_of(random_output(modalities=("audio", "image", "text")))
    terms = get_loss("weighted_sum", parts=yaml.safe_load(PARTS))(batch)
    expected = {f"clip/{name}": value for name, value in CLIP()(batch).items()}
    expected |= {f"align_uniform/{name}": 0.5 * value for name, value in AlignUniform(t=3)(batch).items()}
    expected |= {f"blunt/{name}": 2 * value for name, value in AlignUniform()(batch).items()}
    assert list(terms) == list(expected)
    torch.testing.assert_close(terms, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.5, 0.0), (0.75, 0.25), (1.0, 0.5)])
def test_weights_follow_their_schedule(progress: float, weight: float):
    loss = WeightedSum(parts=[{"name": "clip", "weight": Schedule(start=0.0, end=0.5, begin=0.5)}])
    batch = batch_of(random_output(), progress=progress)
    assert total(loss(batch)).item() == pytest.approx(weight * total(CLIP()(batch)).item(), abs=1e-15)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "`parts` must name at least one loss"),
        ([{"weight": 1.0}], "`parts` as a mapping has the `name` of a loss and optionally `options`, but got nothing"),
        ([{"name": "clip", "t": 2}], "but one has name, t"),
        ([{"name": "clip"}, {"name": "clip"}], r"Two of `parts` are called clip\. Give each a `label`"),
        ([{"name": "nope"}], "There is no loss called 'nope'"),
        ([{"name": "clip", "options": {"t": 2}}], "The loss 'clip' has no option t"),
        ([{"name": "clip", "weight": float("nan")}], "`weight of clip` must be finite"),
    ],
)
def test_faults_are_named_when_the_loss_is_built(parts: list[dict[str, object]], message: str):
    with pytest.raises(ValueError, match=message):
        WeightedSum(parts=parts)
