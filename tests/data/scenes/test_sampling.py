from collections import Counter
from dataclasses import replace

import pytest

from hf_contrastive.data.scenes.held_out import held_out
from hf_contrastive.data.scenes.sampling import Sample, sample_split
from hf_contrastive.data.scenes.scene import Scene
from hf_contrastive.data.scenes.vocabulary import BACKGROUNDS, COLOURS, SHAPES, TEXTURES


def test_held_out_combinations_are_in_the_test_split_alone(
    train_samples: list[Sample], validation_samples: list[Sample], test_samples: list[Sample]
) -> None:
    secret = held_out(0)
    for samples in (train_samples, validation_samples):
        assert not any(secret.occurs_in(sample.scene) for sample in samples)
    novel = [sample for sample in test_samples if secret.occurs_in(sample.scene)]
    assert [sample for sample in test_samples if sample.novel] == novel
    assert len(novel) >= len(test_samples) / 2


def test_about_an_eighth_of_the_colour_combinations_is_held_out_evenly() -> None:
    secret = held_out(3)
    assert Counter(shape for shape, _ in secret.colours) == dict.fromkeys(SHAPES, 1)
    assert set(Counter(colour for _, colour in secret.colours).values()) == {1, 2}
    assert Counter(texture for _, texture in secret.textures) == {"striped": 2, "dotted": 2, "hollow": 2}


def test_every_word_is_common_in_train(train_samples: list[Sample]) -> None:
    things = [thing for sample in train_samples for thing in sample.scene.things]
    for field, words in (("shape", SHAPES), ("colour", COLOURS), ("texture", TEXTURES)):
        counts = Counter(getattr(thing, field) for thing in things)
        assert all(counts[word] > 0.02 * len(things) for word in words), counts
    backgrounds = Counter(sample.scene.background for sample in train_samples)
    assert all(backgrounds[name] > 0.05 * len(train_samples) for name in BACKGROUNDS)


def test_splits_share_no_scene(
    train_samples: list[Sample], validation_samples: list[Sample], test_samples: list[Sample]
) -> None:
    every = (train_samples, validation_samples, test_samples)
    splits = [{_contents(sample.scene) for sample in samples} for samples in every]
    assert len(set.union(*splits)) == sum(len(contents) for contents in splits)


def test_most_scenes_have_siblings_with_the_same_words(test_samples: list[Sample]) -> None:
    families: dict[int, list[Scene]] = {}
    for sample in test_samples:
        families.setdefault(sample.family, []).append(sample.scene)
    for family in families.values():
        assert len({_contents(scene) for scene in family}) == 1
        assert len(set(family)) == len(family) <= 4
    assert sum(len(family) > 1 for family in families.values()) > 0.8 * len(families)


def test_things_keep_apart(test_samples: list[Sample]) -> None:
    for sample in test_samples:
        things = sample.scene.things
        assert 2 <= len(things) <= 4
        assert all(one.gap(other) >= 1 for one in things for other in things if one is not other)


@pytest.mark.parametrize("seed", [0, 7])
def test_samples_follow_the_seed(seed: int) -> None:
    samples = sample_split("train", 20, seed)
    assert samples == sample_split("train", 20, seed)
    assert samples != sample_split("train", 20, seed + 1)


def _contents(scene: Scene) -> tuple[object, ...]:
    """Return what siblings share: everything that there is to see, unbound."""
    fields = ("shape", "colour", "texture", "size", "x", "y")
    values = [tuple(sorted(getattr(thing, field) for thing in scene.things)) for field in fields]
    return (replace(scene, things=()), *values)
