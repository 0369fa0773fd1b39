"""The words of the scene world: what there is to draw, and how people call it."""

from typing import NamedTuple


RGB = tuple[int, int, int]


class Background(NamedTuple):
    """How a background is spoken of, and which colours would vanish in it."""

    adverbials: tuple[str, ...]
    names: tuple[str, ...]
    clashes: frozenset[str]


SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc"),
    "square": ("square",),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "diamond": ("diamond", "rhombus"),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "moon": ("moon", "crescent", "crescent moon"),
    "arrow": ("arrow",),
    "hexagon": ("hexagon",),
    "house": ("house", "home"),
}

COLOURS: dict[str, RGB] = {
    "red": (212, 32, 38),
    "orange": (252, 134, 16),
    "yellow": (252, 218, 40),
    "green": (34, 150, 62),
    "blue": (34, 88, 216),
    "purple": (132, 52, 172),
    "pink": (252, 140, 192),
    "white": (252, 252, 252),
    "black": (24, 24, 28),
}

COLOUR_WORDS: dict[str, tuple[str, ...]] = {name: (name,) for name in COLOURS} | {"purple": ("purple", "violet")}

SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "large": ("big", "big", "large", "huge"),
}

TEXTURES: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "striped", "stripy"),
    "dotted": ("dotted", "dotted", "spotted"),
    "hollow": ("hollow", "hollow", "outlined"),
}

# A hollow circle would be a ring; the thin shapes have no inside left to show dots or an outline in.
THIN_SHAPES = frozenset({"ring", "cross", "moon", "arrow"})
UNDRAWABLE = frozenset({("circle", "hollow"), *((s, t) for s in THIN_SHAPES for t in ("hollow", "dotted"))})

BACKGROUNDS: dict[str, Background] = {
    "grass": Background(("on grass", "on the grass", "on a lawn"), ("grass", "a lawn"), frozenset({"green"})),
    "night": Background(
        ("at night", "in the dark", "in the night sky"),
        ("night", "a night sky"),
        frozenset({"black", "blue", "purple"}),
    ),
    "table": Background(
        ("on a wooden table", "on a table", "on wood"), ("a wooden table", "a table"), frozenset({"orange"})
    ),
    "snow": Background(("in the snow", "on snow"), ("snow", "a snowy field"), frozenset({"white"})),
    "sand": Background(("on sand", "on the beach", "in the sand"), ("sand", "a beach"), frozenset({"yellow"})),
    "water": Background(("on water", "on the water", "at sea"), ("water", "the sea"), frozenset({"blue"})),
    "wall": Background(
        ("in front of a grey wall", "against a grey wall", "by a grey wall"), ("a grey wall",), frozenset()
    ),
    "bricks": Background(
        ("in front of a brick wall", "on a brick wall", "against bricks"),
        ("a brick wall", "bricks"),
        frozenset({"red", "orange"}),
    ),
}


def textures_of(shape: str) -> tuple[str, ...]:
    """Return the textures that can be seen on a shape."""
    return tuple(texture for texture in TEXTURES if (shape, texture) not in UNDRAWABLE)
