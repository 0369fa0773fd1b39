"""A caption being written: it picks words at random and keeps the facts that it has stated."""

import random
from collections.abc import Sequence
from typing import TypeVar

from hf_contrastive.data.scenes.facts import Fact
from hf_contrastive.data.scenes.scene import Scene


Option = TypeVar("Option")


class Draft:
    """The scene that is described, what is true of it, and what has been stated so far."""

    def __init__(self, rng: random.Random, scene: Scene, truths: frozenset[Fact]) -> None:
        self.rng = rng
        self.scene = scene
        self.truths = truths
        self.stated: set[Fact] = set()

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, options: Sequence[Option]) -> Option:
        return options[int(self.rng.random() * len(options))]

    def shuffled_things(self) -> list[int]:
        """Return the numbers of the things, the first two (which siblings exchange) more often in front."""
        order = list(range(len(self.scene.things)))
        self.rng.shuffle(order)
        if self.chance(0.6):
            order.sort(key=lambda index: index >= 2)
        return order

    def unmentioned(self) -> list[int]:
        mentioned = {index for fact in self.stated for index in fact.things}
        return [index for index in self.shuffled_things() if index not in mentioned]

    def holds(self, kind: str, *things: int, value: str = "") -> bool:
        return Fact(kind, things, value) in self.truths

    def claim(self, kind: str, *things: int, value: str = "") -> None:
        """State a fact.

        Raises:
            ValueError: If it is not true of the scene.
        """
        fact = Fact(kind, things, value)
        if fact not in self.truths:
            raise ValueError(f"fact={fact} is not true of the scene; a caption may state only {sorted(self.truths)}")
        self.stated.add(fact)
