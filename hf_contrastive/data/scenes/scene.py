"""A scene: a background and the things on it, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any


CANVAS = 64
SMALL_SPANS = (13, 14)
LARGE_SPANS = (23, 26)


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawn thing; `x`, `y` is its centre and `span` its width, in pixels."""

    shape: str
    colour: str
    texture: str
    span: int
    x: int
    y: int

    @property
    def size(self) -> str:
        return "small" if self.span <= SMALL_SPANS[1] else "large"

    def gap(self, other: "Thing") -> float:
        """Return the pixels between the two bounding boxes; negative where they overlap."""
        apart = max(abs(self.x - other.x), abs(self.y - other.y))
        return apart - (self.span + other.span) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """Things on a background; `look` seeds the details of the background that nobody speaks of."""

    background: str
    look: int
    things: tuple[Thing, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the scene as JSON-ready values, with each thing's size in words added."""
        things = [{**asdict(thing), "size": thing.size} for thing in self.things]
        return {"background": self.background, "look": self.look, "things": things}
