"""Families of sibling scenes: the same words, bound differently."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

from hf_contrastive.data.scenes.facts import facts_of
from hf_contrastive.data.scenes.scene import CANVAS, LARGE_SPANS, SMALL_SPANS, Scene, Thing
from hf_contrastive.data.scenes.vocabulary import BACKGROUNDS, COLOURS, SHAPES, UNDRAWABLE, textures_of


Family = tuple[Scene, ...]

# The share of scenes with two, three and four things, and of families with so many members.
THING_COUNTS = {2: 0.42, 3: 0.38, 4: 0.20}
FAMILY_SIZES = {1: 0.06, 2: 0.22, 3: 0.30, 4: 0.42}
# What two siblings may have exchanged, and how often: a thing's fields, swapped between the first two things.
EXCHANGES: dict[tuple[str, ...], float] = {("colour",): 3, ("x", "y"): 3, ("span",): 1, ("texture",): 1.5}
PLACING_TRIES = 40
MOST_LARGE = 2


def draw_family(rng: random.Random, accepts: Callable[[Scene], bool]) -> Family:
    """Draw families until one has only legible scenes that `accepts` takes; every member is a different scene."""
    while True:
        first = _draw_scene(rng)
        if first is None or not accepts(first):
            continue
        family = _siblings(rng, first)
        if all(_legible(member) and accepts(member) for member in family):
            return family


def _draw_scene(rng: random.Random) -> Scene | None:
    background = rng.choice(list(BACKGROUNDS))
    colours = [colour for colour in COLOURS if colour not in BACKGROUNDS[background].clashes]
    (count,) = rng.choices(list(THING_COUNTS), list(THING_COUNTS.values()))
    shapes = rng.sample(list(SHAPES), count)
    spans = _draw_spans(rng, count)
    for _ in range(PLACING_TRIES):
        places = [_draw_place(rng, span) for span in spans]
        things = tuple(
            Thing(shape, rng.choice(colours), _draw_texture(rng, shape), span, *place)
            for shape, span, place in zip(shapes, spans, places, strict=True)
        )
        scene = Scene(background, rng.randrange(2**31), things)
        if _legible(scene):
            return scene
    return None


def _draw_spans(rng: random.Random, count: int) -> list[int]:
    large = rng.randint(0, min(count, MOST_LARGE))
    spans = [rng.randint(*(LARGE_SPANS if index < large else SMALL_SPANS)) for index in range(count)]
    rng.shuffle(spans)
    return spans


def _draw_texture(rng: random.Random, shape: str) -> str:
    return "plain" if rng.random() < 0.3 else rng.choice(textures_of(shape))


def _draw_place(rng: random.Random, span: int) -> tuple[int, int]:
    margin = span // 2 + 2
    return rng.randint(margin, CANVAS - margin), rng.randint(margin, CANVAS - margin)


def _legible(scene: Scene) -> bool:
    """Tell whether the things keep apart and in the frame, and can all be drawn."""
    return (
        all(one.gap(other) >= 1 for one, other in combinations(scene.things, 2))
        and all(_in_frame(thing) for thing in scene.things)
        and not any((thing.shape, thing.texture) in UNDRAWABLE for thing in scene.things)
    )


def _in_frame(thing: Thing) -> bool:
    reach = thing.span / 2
    return all(reach < position < CANVAS - reach for position in (thing.x, thing.y))


def _siblings(rng: random.Random, first: Scene) -> Family:
    (size,) = rng.choices(list(FAMILY_SIZES), list(FAMILY_SIZES.values()))
    members = [first]
    for fields in _draw_exchanges(rng, first):
        members += [_exchange(member, fields) for member in members]
    return tuple({facts_of(member): member for member in members[:size]}.values())


def _draw_exchanges(rng: random.Random, scene: Scene) -> list[tuple[str, ...]]:
    """Choose up to two exchanges among those that change what can be said of the scene."""
    facts = facts_of(scene)
    telling = [fields for fields in EXCHANGES if facts_of(_exchange(scene, fields)) != facts]
    chosen: list[tuple[str, ...]] = []
    while telling and len(chosen) < 2:
        (fields,) = rng.choices(telling, [EXCHANGES[fields] for fields in telling])
        telling.remove(fields)
        chosen.append(fields)
    return chosen


def _exchange(scene: Scene, fields: tuple[str, ...]) -> Scene:
    one, two, *rest = scene.things
    swapped = (
        replace(one, **{field: getattr(two, field) for field in fields}),
        replace(two, **{field: getattr(one, field) for field in fields}),
    )
    return replace(scene, things=(*swapped, *rest))
