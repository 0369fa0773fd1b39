import math

import pytest
import yaml

from hf_contrastive.losses import CLIPDivergence, Schedule, get_loss
from hf_contrastive.losses.schedule import as_schedule
from hf_contrastive.testing import batch_of, random_output


def test_a_linear_weight_changes_evenly_between_begin_and_finish():
    weight = Schedule(start=1.0, end=3.0, begin=0.2, finish=0.7)
    expected = {0.0: 1.0, 0.2: 1.0, 0.3: 1.4, 0.45: 2.0, 0.7: 3.0, 1.0: 3.0}
    assert {done: pytest.approx(weight.at(done), abs=1e-12) for done in expected} == expected


def test_a_cosine_weight_changes_slowly_at_both_ends():
    weight = Schedule(start=2.0, end=0.0, shape="cosine")
    for done in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert weight.at(done) == pytest.approx(1 + math.cos(math.pi * done), abs=1e-12)


def test_a_constant_weight_jumps_where_it_begins():
    weight = Schedule(start=0.0, end=0.5, shape="constant", begin=0.75)
    assert [weight.at(done) for done in (0.0, 0.7499, 0.75, 1.0)] == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("weight", [2, 2.0])
def test_a_number_is_a_schedule_that_never_changes(weight: float):
    assert {as_schedule(weight, "weight").at(done) for done in (0.0, 0.3, 1.0)} == {2.0}


def test_yaml_names_a_schedule_by_its_arguments():
    options = yaml.safe_load("weight: {start: 0, end: 0.25, shape: cosine, begin: 0.5}")
    assert as_schedule(options["weight"], "weight") == Schedule(start=0, end=0.25, shape="cosine", begin=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "quadratic"}, r"`shape` must be one of constant, linear, cosine, but got 'quadratic'"),
        ({"begin": 0.5, "finish": 0.5}, r"0 <= begin < finish <= 1, but got 0\.5 and 0\.5"),
        ({"begin": -0.1}, r"but got -0\.1 and 1\.0"),
        ({"end": math.inf}, r"`end` must be finite, but got inf"),
    ],
)
def test_an_impossible_schedule_is_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"start": 0.0, "end": 1.0} | options)


def test_a_mapping_that_is_no_schedule_is_answered_with_the_keys_of_one():
    message = r"`weight` as a schedule has `start`, `end` and optionally shape, begin, finish, but got start, stop"
    with pytest.raises(ValueError, match=message):
        get_loss("clip_divergence", weight={"start": 0.0, "stop": 1.0})


def test_a_weight_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match=r"^`weight` must be finite, but got nan\.$"):
        CLIPDivergence(weight=math.nan)


def test_a_truth_value_is_no_weight():
    with pytest.raises(TypeError, match="`weight` must be a number, a Schedule or a mapping"):
        get_loss("clip_divergence", weight=True)


def test_a_weight_out_of_its_range_at_either_end_is_refused():
    for start, end in ((0.0, 1.5), (-0.5, 1.0)):
        with pytest.raises(ValueError, match="`weight` leads from CLIP at 0 to the decoupled objective at 1"):
            CLIPDivergence(weight=Schedule(start=start, end=end))


def test_a_loss_takes_the_weight_of_the_batch_it_sees():
    output = random_output()
    schedule = CLIPDivergence(weight={"start": 0.0, "end": 0.5, "begin": 0.5})
    for progress, weight in ((0.0, 0.0), (0.5, 0.0), (0.75, 0.25), (1.0, 0.5)):
        expected = CLIPDivergence(weight=weight)(batch_of(output))["divergence"]
        assert schedule(batch_of(output, progress=progress))["divergence"].item() == expected.item()
