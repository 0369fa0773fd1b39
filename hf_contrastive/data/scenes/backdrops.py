"""The backgrounds, painted at the drawing's own scale."""

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from hf_contrastive.data.scenes.vocabulary import RGB


Painter = Callable[[ImageDraw.ImageDraw, random.Random, int], None]


def paint_backdrop(name: str, rng: random.Random, side: int) -> Image.Image:
    """Paint the background `name` on a new square image of `side` pixels."""
    image = Image.new("RGB", (side, side), _near(BASES[name], rng))
    PAINTERS[name](ImageDraw.Draw(image), rng, side)
    return image


def _near(colour: RGB, rng: random.Random, spread: int = 7) -> RGB:
    """Vary the brightness of a colour a little."""
    shift = rng.randint(-spread, spread)
    red, green, blue = (max(0, min(255, part + shift)) for part in colour)
    return red, green, blue


def _specks(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, count: int, colour: RGB, size: int) -> None:
    for _ in range(count):
        x, y = rng.randrange(side), rng.randrange(side)
        draw.ellipse((x, y, x + size, y + size), fill=_near(colour, rng))


def _grass(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    for _ in range(70):
        x, y = rng.randrange(side), rng.randrange(side)
        blade = (x, y, x + rng.randint(-4, 4), y - rng.randint(7, 14))
        draw.line(blade, fill=_near((92, 156, 62), rng, 14), width=3)


def _night(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    for top in range(0, side, 6):
        light = 30 * top // side
        draw.rectangle((0, top, side, top + 6), fill=(14 + light // 2, 16 + light // 2, 44 + light))
    _specks(draw, rng, side, 14, (176, 180, 200), 2)


def _table(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    plank = side // 4
    for top in range(-rng.randrange(plank), side, plank):
        draw.rectangle((0, top, side, top + plank), fill=_near((160, 112, 70), rng, 10))
        draw.line((0, top, side, top), fill=(112, 74, 42), width=3)
        grain = top + rng.randint(plank // 4, 3 * plank // 4)
        draw.line((rng.randrange(side), grain, rng.randrange(side), grain), fill=(142, 96, 58), width=3)


def _snow(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    for _ in range(3):
        x, y = rng.randint(-side // 3, side), rng.randint(0, side)
        draw.ellipse((x, y, x + side, y + side // 2), fill=_near((214, 224, 240), rng, 5))
    _specks(draw, rng, side, 30, (248, 250, 255), 4)


def _sand(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    _specks(draw, rng, side, 60, (208, 182, 132), 3)
    _specks(draw, rng, side, 25, (246, 230, 192), 3)


def _water(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    wave = side // 10
    for top in range(rng.randrange(wave), side, wave + 6):
        offset = rng.randrange(2 * wave)
        for left in range(-offset, side, 2 * wave):
            draw.arc((left, top, left + 2 * wave, top + wave), 20, 160, fill=(150, 204, 232), width=3)


def _wall(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    floor = side - rng.randint(side // 8, side // 6)
    draw.rectangle((0, floor, side, side), fill=_near((104, 98, 96), rng))
    draw.line((0, floor, side, floor), fill=(196, 196, 196), width=4)


def _bricks(draw: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    height, width = side // 8, side // 4
    for row, top in enumerate(range(-rng.randrange(height), side, height)):
        draw.line((0, top, side, top), fill=(196, 178, 166), width=3)
        for left in range(row % 2 * width // 2, side, width):
            draw.line((left, top, left, top + height), fill=(196, 178, 166), width=3)


BASES: dict[str, RGB] = {
    "grass": (116, 182, 78),
    "night": (20, 22, 54),
    "table": (160, 112, 70),
    "snow": (228, 235, 246),
    "sand": (228, 206, 158),
    "water": (98, 170, 214),
    "wall": (158, 158, 160),
    "bricks": (160, 92, 76),
}

PAINTERS: dict[str, Painter] = {
    "grass": _grass,
    "night": _night,
    "table": _table,
    "snow": _snow,
    "sand": _sand,
    "water": _water,
    "wall": _wall,
    "bricks": _bricks,
}
