"""Combinations that training never shows, so that the test split asks for binding and not for memory."""

import random
from functools import lru_cache
from typing import NamedTuple

from hf_contrastive.data.scenes.scene import Scene
from hf_contrastive.data.scenes.vocabulary import COLOURS, SHAPES, TEXTURES, textures_of


SHAPES_PER_TEXTURE = 2


class HeldOut(NamedTuple):
    """The (shape, colour) and (shape, texture) pairs that occur in the test split alone."""

    colours: frozenset[tuple[str, str]]
    textures: frozenset[tuple[str, str]]

    def occurs_in(self, scene: Scene) -> bool:
        return any(
            (thing.shape, thing.colour) in self.colours or (thing.shape, thing.texture) in self.textures
            for thing in scene.things
        )


@lru_cache(maxsize=8)
def held_out(seed: int) -> HeldOut:
    """Choose one colour for each shape and two shapes for each texture, with colours as even as they can be."""
    rng = random.Random(f"{seed}/held out")
    return HeldOut(_colours(rng), _textures(rng))


def _colours(rng: random.Random) -> frozenset[tuple[str, str]]:
    colours = list(COLOURS)
    rng.shuffle(colours)
    shapes = list(SHAPES)
    rng.shuffle(shapes)
    return frozenset((shape, colours[index % len(colours)]) for index, shape in enumerate(shapes))


def _textures(rng: random.Random) -> frozenset[tuple[str, str]]:
    pairs: set[tuple[str, str]] = set()
    for texture in [texture for texture in TEXTURES if texture != "plain"]:
        able = [shape for shape in SHAPES if texture in textures_of(shape)]
        pairs.update((shape, texture) for shape in rng.sample(able, SHAPES_PER_TEXTURE))
    return frozenset(pairs)
