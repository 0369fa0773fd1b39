"""Samples: the captioned scenes of a split, chosen without drawing anything."""

import json
import random
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from typing import NamedTuple

from hf_contrastive.data.scenes.captions import Caption, write_captions
from hf_contrastive.data.scenes.families import draw_family
from hf_contrastive.data.scenes.held_out import held_out
from hf_contrastive.data.scenes.scene import Scene


# The share of test families whose every scene has a held-out combination.
NOVEL_SHARE = 0.65
BUCKETS = {"train": (2, 3, 4, 5, 6, 7), "validation": (1,), "test": (0,)}
BUCKET_COUNT = 8


class Sample(NamedTuple):
    """A scene with its captions, the number of its family in the split, and whether it has a held-out combination."""

    scene: Scene
    captions: list[Caption]
    family: int
    novel: bool

    def as_json(self) -> str:
        """Return the facts of the sample, with those that each caption states."""
        stated = [[list(fact) for fact in sorted(caption.facts)] for caption in self.captions]
        return json.dumps({**self.scene.as_dict(), "family": self.family, "novel": self.novel, "stated": stated})


def sample_split(split: str, size: int, seed: int = 0) -> list[Sample]:
    """Sample a split: whole families of siblings, shuffled among each other."""
    samples = list(islice(_samples(split, seed), size))
    random.Random(f"{seed}/{split}/order").shuffle(samples)
    return samples


def _samples(split: str, seed: int) -> Iterator[Sample]:
    for number in count():
        rng = random.Random(f"{seed}/{split}/{number}")
        novel = split == "test" and rng.random() < NOVEL_SHARE
        family = draw_family(rng, partial(_belongs, split=split, seed=seed, novel=novel))
        for scene in family:
            yield Sample(scene, write_captions(rng, scene, family), number, novel)


def _belongs(scene: Scene, *, split: str, seed: int, novel: bool) -> bool:
    return _bucket(scene) in BUCKETS[split] and held_out(seed).occurs_in(scene) == novel


def _bucket(scene: Scene) -> int:
    """Assign a scene, with all its siblings, to one split: by what is in it, however that is bound together."""
    things = scene.things
    contents = [
        sorted(values)
        for values in (
            [thing.shape for thing in things],
            [thing.colour for thing in things],
            [thing.texture for thing in things],
            [thing.size for thing in things],
        )
    ]
    return zlib.crc32(json.dumps([scene.background, contents]).encode()) % BUCKET_COUNT
