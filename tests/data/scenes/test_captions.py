import json
import random
import re

import pytest

from hf_contrastive.data.scenes.draft import Draft
from hf_contrastive.data.scenes.facts import facts_of
from hf_contrastive.data.scenes.sampling import Sample
from tests.data.scenes.checker import descriptions, sides


@pytest.mark.parametrize("judge", [descriptions, sides])
def test_captions_are_true_of_the_coordinates(train_samples: list[Sample], judge) -> None:
    verdicts = []
    for sample in train_samples:
        things = json.loads(sample.as_json())["things"]
        for caption in sample.captions:
            found = list(judge(caption.text, things))
            assert all(found), (caption.text, things)
            verdicts += found
    assert len(verdicts) > len(train_samples)


def test_the_checker_sees_a_lie() -> None:
    star = {"shape": "star", "colour": "red", "texture": "plain", "size": "small", "x": 10, "y": 30}
    things = [star, star | {"shape": "ring", "colour": "blue", "x": 50}]
    assert list(sides("A red star sits left of a blue ring.", things)) == [True]
    assert list(sides("to the left of a star is a blue ring", things)) == [False]
    assert list(sides("a star at the top, with a ring to its left", things)) == [False]
    assert list(descriptions("a blue star and a small blue hoop", things)) == [False, True, True]


def test_what_a_caption_states_is_true(train_samples: list[Sample]) -> None:
    for sample in train_samples[:300]:
        truths = facts_of(sample.scene)
        assert all(caption.facts <= truths for caption in sample.captions)


def test_captions_are_sentences_of_5_to_28_words(train_samples: list[Sample]) -> None:
    for text in _texts(train_samples):
        assert 5 <= len(text.split()) <= 28, text
        assert not re.search(r"  | ,|,,|^\W|None", text), text


def test_articles_fit_the_next_word(train_samples: list[Sample]) -> None:
    for text in _texts(train_samples):
        assert not re.search(r"\ba [aeio]|\ban [^aeio]", text, re.IGNORECASE), text


def test_captions_leave_things_out_and_differ(train_samples: list[Sample]) -> None:
    texts = list(_texts(train_samples))
    kinds = [{fact.kind for fact in caption.facts} for sample in train_samples for caption in sample.captions]
    for kind in ("size", "texture", "background", "count"):
        assert 0.05 < sum(kind in stated for stated in kinds) / len(kinds) < 0.95
    assert len(set(texts)) > 0.98 * len(texts)


def test_a_draft_refuses_a_lie(train_samples: list[Sample]) -> None:
    scene = train_samples[0].scene
    with pytest.raises(ValueError, match="not true of the scene"):
        Draft(random.Random(0), scene, facts_of(scene)).claim("background", value="the moon")


def _texts(samples: list[Sample]):
    return (caption.text for sample in samples for caption in sample.captions)
