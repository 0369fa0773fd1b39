"""A reader of captions that shares no code with their writer: it knows English and coordinates."""

import re
from collections.abc import Callable, Iterator
from typing import Any


Things = list[dict[str, Any]]
NOUNS = {
    "circle": "circle", "disc": "circle", "square": "square", "triangle": "triangle", "star": "star",
    "heart": "heart", "diamond": "diamond", "rhombus": "diamond", "ring": "ring", "hoop": "ring", "cross": "cross",
    "plus sign": "cross", "crescent moon": "moon", "moon": "moon", "crescent": "moon", "arrow": "arrow",
    "hexagon": "hexagon", "house": "house", "home": "house",
}  # fmt: skip
COLOURS = {word: word for word in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")}
COLOURS |= {"violet": "purple"}
TEXTURES = {"plain": "plain", "solid": "plain", "striped": "striped", "stripy": "striped", "dotted": "dotted"}
TEXTURES |= {"spotted": "dotted", "hollow": "hollow", "outlined": "hollow"}
SIZES = {"small": "small", "little": "small", "tiny": "small", "big": "large", "large": "large", "huge": "large"}
ADJECTIVES = {"colour": COLOURS, "texture": TEXTURES, "size": SIZES}

SIDES: dict[str, Callable[[dict[str, Any], dict[str, Any]], bool]] = {
    "left of": lambda one, other: one["x"] < other["x"],
    "right of": lambda one, other: one["x"] > other["x"],
    "above|over": lambda one, other: one["y"] < other["y"],
    "below|under|beneath": lambda one, other: one["y"] > other["y"],
}
ITS_SIDES = {
    r"(?:to|on) its left": "left of",
    r"(?:to|on) its right": "right of",
    r"(?:above|over) it": "above|over",
    r"(?:below|under|beneath) it": "below|under|beneath",
}

ADJECTIVE = "|".join(word for words in ADJECTIVES.values() for word in words)
NOUN = "|".join(sorted(NOUNS, key=len, reverse=True))
PHRASE = rf"(?:an?|one|the) (?:(?:{ADJECTIVE}) )*({NOUN})"
VERB = r"(?: is| sits| lies| stands)?"
WITH_IT = rf"{PHRASE}(?: [a-z ]*?)?(?:,? with|,? and) {PHRASE}"


def descriptions(text: str, things: Things) -> Iterator[bool]:
    """Judge every adjective by the thing whose noun follows it."""
    for phrase in re.finditer(rf"\b((?:(?:{ADJECTIVE}) )+)({NOUN})\b", text.lower()):
        thing = _thing(phrase[2], things)
        for adjective in phrase[1].split():
            yield any(words.get(adjective) == thing[field] for field, words in ADJECTIVES.items())


def sides(text: str, things: Things) -> Iterator[bool]:
    """Judge every `a star is left of a ring`, `left of a ring is a star` and `a ring with a star to its left`."""
    text = text.lower()
    for words, holds in SIDES.items():
        way = rf"(?:(?:to|on) the )?(?:{words})"
        for one, other in re.findall(rf"\b{PHRASE}{VERB} {way} {PHRASE}", text):
            yield holds(_thing(one, things), _thing(other, things))
        for other, one in re.findall(rf"(?:^|[,:] ){way} {PHRASE} (?:is|there is|there's|sits) {PHRASE}", text):
            yield holds(_thing(one, things), _thing(other, things))
    for words, side in ITS_SIDES.items():
        for other, one in re.findall(rf"\b{WITH_IT} {words}", text):
            yield SIDES[side](_thing(one, things), _thing(other, things))


def _thing(noun: str, things: Things) -> dict[str, Any]:
    (thing,) = [thing for thing in things if thing["shape"] == NOUNS[noun]]
    return thing
