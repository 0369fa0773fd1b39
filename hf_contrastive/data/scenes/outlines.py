"""The outline of each shape, as points in a square from -1 to 1 with y pointing down."""

from math import cos, pi, sin


Point = tuple[float, float]
Outline = tuple[Point, ...]


def _around(count: int, radius: float = 1.0, start: float = -pi / 2) -> Outline:
    """Return points evenly around a circle, the first at the top."""
    angles = [start + 2 * pi * step / count for step in range(count)]
    return tuple((radius * cos(angle), radius * sin(angle)) for angle in angles)


def _star() -> Outline:
    tips, notches = _around(5, 1.1), _around(5, 0.47, start=-pi / 2 + pi / 5)
    return tuple(point for pair in zip(tips, notches, strict=True) for point in pair)


def _heart() -> Outline:
    angles = [2 * pi * step / 32 for step in range(32)]
    across = [sin(angle) ** 3 for angle in angles]
    down = [-(13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) / 15 - 0.1 for a in angles]
    return tuple(zip(across, down, strict=True))


def _moon() -> Outline:
    """Return a crescent: a long way around one circle, then back along another that is shifted to the right."""
    steps = [step / 16 for step in range(17)]
    outer = [pi * (0.28 + 1.44 * step) for step in steps]
    tip_x, tip_y = cos(outer[0]), sin(outer[0])
    inner = [pi * (1.5 - step) for step in steps]
    back = [(tip_x + 0.8 * cos(angle), tip_y * sin(angle)) for angle in inner]
    return tuple((cos(a) + 0.12, sin(a)) for a in outer) + tuple((x + 0.12, y) for x, y in back)


def _cross(arm: float = 0.36) -> Outline:
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    points: list[Point] = []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    return tuple(points)


OUTLINES: dict[str, Outline] = {
    "circle": _around(32),
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "triangle": ((0.0, -0.95), (1.05, 0.9), (-1.05, 0.9)),
    "star": _star(),
    "heart": _heart(),
    "diamond": ((0.0, -1.1), (0.78, 0.0), (0.0, 1.1), (-0.78, 0.0)),
    "ring": _around(32),
    "cross": _cross(),
    "moon": _moon(),
    "arrow": ((-1, -0.32), (0.1, -0.32), (0.1, -0.92), (1.05, 0.0), (0.1, 0.92), (0.1, 0.32), (-1, 0.32)),
    "hexagon": _around(6, 1.05, start=0.0),
    "house": ((0, -1), (1, -0.1), (0.72, -0.1), (0.72, 0.95), (-0.72, 0.95), (-0.72, -0.1), (-1, -0.1)),
}
