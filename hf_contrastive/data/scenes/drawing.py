"""Scenes drawn as images: every thing is a mask of its shape, filled with its texture."""

import random
from math import cos, radians, sin

from PIL import Image, ImageDraw

from hf_contrastive.data.scenes.backdrops import paint_backdrop
from hf_contrastive.data.scenes.outlines import OUTLINES
from hf_contrastive.data.scenes.scene import CANVAS, Scene, Thing
from hf_contrastive.data.scenes.vocabulary import COLOURS, RGB


SCALE = 3
MOST_TILT = 9
LIGHT = frozenset({"white", "yellow", "pink"})

Points = list[tuple[float, float]]


def draw_scene(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image of 64 x 64 pixels; the same scene gives the same pixels."""
    rng = random.Random(scene.look)
    image = paint_backdrop(scene.background, rng, CANVAS * SCALE)
    for thing in scene.things:
        _draw_thing(image, thing, tilt=rng.uniform(-MOST_TILT, MOST_TILT))
    return image.reduce(SCALE)


def _draw_thing(image: Image.Image, thing: Thing, tilt: float) -> None:
    side = (thing.span + 4) * SCALE
    points = _points(thing, side / 2, tilt)
    corner = (round(thing.x * SCALE - side / 2), round(thing.y * SCALE - side / 2))
    image.paste(_filling(thing, side), corner, _mask(thing, points, side))
    if thing.texture != "hollow":
        _draw_edge(image, thing, points, corner)


def _points(thing: Thing, centre: float, tilt: float) -> Points:
    radius = thing.span * SCALE / 2
    across, down = radius * cos(radians(tilt)), radius * sin(radians(tilt))
    return [(centre + x * across - y * down, centre + x * down + y * across) for x, y in OUTLINES[thing.shape]]


def _mask(thing: Thing, points: Points, side: int) -> Image.Image:
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    if thing.texture == "hollow":
        draw.line([*points, *points[:2]], fill=255, width=_stroke(thing), joint="curve")
    else:
        draw.polygon(points, fill=255)
    if thing.shape == "ring":
        draw.polygon(_hole(points, side / 2), fill=0)
    return mask


def _stroke(thing: Thing) -> int:
    return round(SCALE * (2 if thing.size == "small" else 3))


def _hole(points: Points, centre: float) -> Points:
    """Shrink the points around the centre."""
    return [(centre + 0.5 * (x - centre), centre + 0.5 * (y - centre)) for x, y in points]


def _filling(thing: Thing, side: int) -> Image.Image:
    colour = COLOURS[thing.colour]
    filling = Image.new("RGB", (side, side), colour)
    draw = ImageDraw.Draw(filling)
    if thing.texture == "striped":
        _stripe(draw, side, _contrast(thing.colour), period=SCALE * (4 if thing.size == "small" else 6))
    if thing.texture == "dotted":
        _dot(draw, side, _contrast(thing.colour), period=SCALE * (4 if thing.size == "small" else 6))
    return filling


def _stripe(draw: ImageDraw.ImageDraw, side: int, colour: RGB, period: int) -> None:
    """Draw diagonal stripes as wide as the gaps between them."""
    for start in range(-side, side, period):
        draw.line((start, side, start + side, 0), fill=colour, width=round(period * 0.36))


def _dot(draw: ImageDraw.ImageDraw, side: int, colour: RGB, period: int) -> None:
    """Draw rows of dots, every second row shifted, one of them at the centre."""
    radius = period * 0.3
    for row in range(-4, 5):
        for column in range(-4, 5):
            x, y = side / 2 + (column + row % 2 / 2) * period, side / 2 + row * period * 0.87
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _draw_edge(image: Image.Image, thing: Thing, points: Points, corner: tuple[int, int]) -> None:
    """Draw a thin dark edge, so that a thing stands out from any background."""
    edge = _mix(COLOURS[thing.colour], (0, 0, 0), 0.45)
    draw = ImageDraw.Draw(image)
    outlines = [points, _hole(points, (thing.span + 4) * SCALE / 2)] if thing.shape == "ring" else [points]
    for outline in outlines:
        placed = [(x + corner[0], y + corner[1]) for x, y in outline]
        draw.line([*placed, placed[0]], fill=edge, width=2)


def _contrast(colour: str) -> RGB:
    """Return the second colour of stripes and dots: a dark shade of light colours, a pale one of the others."""
    if colour in LIGHT:
        return _mix(COLOURS[colour], (40, 20, 30), 0.62)
    return _mix(COLOURS[colour], (255, 255, 255), 0.8)


def _mix(colour: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
