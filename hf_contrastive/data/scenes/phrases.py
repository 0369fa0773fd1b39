"""The parts of a caption: noun phrases, places, relations and backgrounds."""

from typing import NamedTuple

from hf_contrastive.data.scenes.draft import Draft
from hf_contrastive.data.scenes.vocabulary import BACKGROUNDS, COLOUR_WORDS, SHAPES, SIZES, TEXTURES


PLACES: dict[tuple[str, str], tuple[str, ...]] = {
    ("side", "left"): ("on the left", "near the left edge", "on the left side"),
    ("side", "right"): ("on the right", "near the right edge", "on the right side"),
    ("side", "top"): ("at the top", "near the top", "near the top edge"),
    ("side", "bottom"): ("at the bottom", "near the bottom", "near the bottom edge"),
    ("middle", ""): ("in the middle", "in the centre"),
} | {
    ("corner", corner): (f"in the {corner} corner", f"at the {corner}", f"in the {corner}")
    for corner in ("top left", "top right", "bottom left", "bottom right")
}


class Relation(NamedTuple):
    """How one thing may be said to stand to another: `fact` holds from one to the other, or backwards."""

    fact: str
    backwards: bool
    words: tuple[str, ...]
    of_it: tuple[str, ...]


DIRECTIONS = (
    Relation("left of", False, ("left of", "to the left of", "on the left of"), ("to its left", "on its left")),
    Relation("left of", True, ("right of", "to the right of", "on the right of"), ("to its right", "on its right")),
    Relation("above", False, ("above", "above", "over"), ("above it", "over it")),
    Relation("above", True, ("below", "under", "beneath"), ("below it", "under it", "beneath it")),
)
NEXT_TO = Relation("next to", False, ("next to", "beside", "close to"), ("next to it", "beside it", "close to it"))


def some(draft: Draft, index: int, colour: float = 0.92, size: float = 0.45) -> str:
    """Introduce a thing: `a small striped red star`, with the given chances to name its colour and size."""
    words = [*_size(draft, index, size), *_texture(draft, index), *_colour(draft, index, colour)]
    words.append(_noun(draft, index, optional=len(words) > 1))
    phrase = " ".join(words)
    return f"one {phrase}" if draft.chance(0.04) else with_article(phrase)


def the(draft: Draft, index: int) -> str:
    """Name a thing again, or as if it were known: `the star`, `the red star`."""
    words = [*_colour(draft, index, 0.25), _noun(draft, index, optional=False)]
    return f"the {' '.join(words)}"


def with_article(phrase: str) -> str:
    """Put `a` or `an` in front."""
    return f"an {phrase}" if phrase[0] in "aeio" else f"a {phrase}"


def place(draft: Draft, index: int) -> str | None:
    """Say where in the picture a thing is, or None where it is nowhere in particular."""
    known = [key for key in PLACES if draft.holds(key[0], index, value=key[1])]
    if not known:
        return None
    corners = [key for key in known if key[0] == "corner"]
    kind, value = draft.pick(corners if corners and draft.chance(0.6) else known)
    draft.claim(kind, index, value=value)
    return draft.pick(PLACES[kind, value])


def direction(draft: Draft, one: int, other: int) -> Relation | None:
    """State on which side of `other` the thing `one` is, or None where that would not be clear."""
    return _relation(draft, one, other, DIRECTIONS)


def relation(draft: Draft, one: int, other: int) -> Relation | None:
    """State how `one` stands to `other`: mostly the direction, at times only that they are close."""
    first, second = (DIRECTIONS, (NEXT_TO,)) if draft.chance(0.88) else ((NEXT_TO,), DIRECTIONS)
    return _relation(draft, one, other, first) or _relation(draft, one, other, second)


def _relation(draft: Draft, one: int, other: int, among: tuple[Relation, ...]) -> Relation | None:
    for known in among:
        things = (other, one) if known.backwards else (one, other)
        if draft.holds(known.fact, *things):
            draft.claim(known.fact, *things)
            return known
    return None


def adverbial(draft: Draft) -> str:
    """Say where the scene is: `on grass`."""
    draft.claim("background", value=draft.scene.background)
    return draft.pick(BACKGROUNDS[draft.scene.background].adverbials)


def background_name(draft: Draft) -> str:
    """Name the background: `snow`."""
    draft.claim("background", value=draft.scene.background)
    return draft.pick(BACKGROUNDS[draft.scene.background].names)


def _noun(draft: Draft, index: int, *, optional: bool) -> str:
    if optional and draft.chance(0.06):
        return draft.pick(("thing", "shape"))
    shape = draft.scene.things[index].shape
    draft.claim("shape", index, value=shape)
    return draft.pick(SHAPES[shape])


def _size(draft: Draft, index: int, chance: float) -> list[str]:
    size = draft.scene.things[index].size
    return _stated(draft, "size", index, size, SIZES[size], chance)


def _texture(draft: Draft, index: int) -> list[str]:
    texture = draft.scene.things[index].texture
    chance = 0.1 if texture == "plain" else 0.6
    return _stated(draft, "texture", index, texture, TEXTURES[texture], chance)


def _colour(draft: Draft, index: int, chance: float) -> list[str]:
    colour = draft.scene.things[index].colour
    return _stated(draft, "colour", index, colour, COLOUR_WORDS[colour], chance)


def _stated(draft: Draft, kind: str, index: int, value: str, words: tuple[str, ...], chance: float) -> list[str]:
    if not draft.chance(chance):
        return []
    draft.claim(kind, index, value=value)
    return [draft.pick(words)]
