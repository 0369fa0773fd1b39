"""Everything that is true of a scene, as a set of small facts."""

from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

from hf_contrastive.data.scenes.scene import Scene, Thing


COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}

NEAR_SIDE = 21
FAR_SIDE = 43
MIDDLE = range(25, 40)
CLOSE = 5
CLEARLY_APART = 10
# A direction must dominate the other axis this much before anyone would say "left of".
DOMINANCE = 1.4


class Fact(NamedTuple):
    """One statement: its kind, the things it is about (in order), and the value it gives them."""

    kind: str
    things: tuple[int, ...] = ()
    value: str = ""


def facts_of(scene: Scene) -> frozenset[Fact]:
    """Return every fact that a caption of the scene may state."""
    return frozenset(_all_facts(scene))


def _all_facts(scene: Scene) -> Iterator[Fact]:
    yield Fact("background", (), scene.background)
    yield Fact("count", (), COUNTS[len(scene.things)])
    for index, thing in enumerate(scene.things):
        yield from _own_facts(index, thing)
    relations = set(_pair_facts(scene.things))
    yield from relations
    yield from _between_facts(relations, len(scene.things))


def _own_facts(index: int, thing: Thing) -> Iterator[Fact]:
    this = (index,)
    yield Fact("shape", this, thing.shape)
    yield Fact("colour", this, thing.colour)
    yield Fact("texture", this, thing.texture)
    yield Fact("size", this, thing.size)
    across, down = _side(thing.x, "left", "right"), _side(thing.y, "top", "bottom")
    yield from (Fact("side", this, side) for side in (across, down) if side)
    if across and down:
        yield Fact("corner", this, f"{down} {across}")
    if thing.x in MIDDLE and thing.y in MIDDLE:
        yield Fact("middle", this)


def _side(position: int, near: str, far: str) -> str:
    if position <= NEAR_SIDE:
        return near
    return far if position >= FAR_SIDE else ""


def _pair_facts(things: tuple[Thing, ...]) -> Iterator[Fact]:
    for (i, one), (j, other) in permutations(enumerate(things), 2):
        right, down = other.x - one.x, other.y - one.y
        if right >= CLEARLY_APART and right >= DOMINANCE * abs(down):
            yield Fact("left of", (i, j))
        if down >= CLEARLY_APART and down >= DOMINANCE * abs(right):
            yield Fact("above", (i, j))
        if one.gap(other) <= CLOSE:
            yield Fact("next to", (i, j))
        if one.size == "large" and other.size == "small":
            yield Fact("bigger than", (i, j))
        if one.colour == other.colour:
            yield Fact("same colour", (i, j))


def _between_facts(relations: set[Fact], count: int) -> Iterator[Fact]:
    for i, j, k in permutations(range(count), 3):
        if any({Fact(way, (i, j)), Fact(way, (j, k))} <= relations for way in ("left of", "above")):
            yield Fact("between", (j, i, k))
            yield Fact("between", (j, k, i))
