"""The clauses that a caption is built around, each written for a few things of the scene where it fits."""

from collections.abc import Callable
from itertools import pairwise

from hf_contrastive.data.scenes.draft import Draft
from hf_contrastive.data.scenes.facts import COUNTS
from hf_contrastive.data.scenes.phrases import direction, place, relation, some, the


Clause = Callable[[Draft], str | None]

VERBS = ("is", "sits", "lies", "stands", "", "", "")
OPENINGS = ("there is", "there's", "I see", "you can see", "", "", "")
PLURAL_NOUNS = ("things", "shapes", "objects")


def stands_to(draft: Draft) -> str | None:
    """Write `a red star is left of a blue ring`."""
    one, other, *_ = draft.shuffled_things()
    found = relation(draft, one, other)
    return found and f"{some(draft, one)} {draft.pick(VERBS)} {draft.pick(found.words)} {some(draft, other)}"


def inverted(draft: Draft) -> str | None:
    """Write `below a blue ring is a red star`."""
    one, other, *_ = draft.shuffled_things()
    found = direction(draft, one, other)
    verb = draft.pick(("is", "there is", "sits", "there's"))
    return found and f"{draft.pick(found.words)} {some(draft, other)} {verb} {some(draft, one)}"


def with_another(draft: Draft) -> str | None:
    """Write `there is a blue ring at the top, with a red star to its right`."""
    one, other, *_ = draft.shuffled_things()
    found = relation(draft, other, one)
    if not found:
        return None
    where = (place(draft, one) if draft.chance(0.4) else None) or ""
    join = draft.pick((", with", " with", " and")) if not where else draft.pick((", with", " and"))
    return f"{draft.pick(OPENINGS)} {some(draft, one)} {where}{join} {some(draft, other)} {draft.pick(found.of_it)}"


def placed(draft: Draft) -> str | None:
    """Write `a red star in the top left corner and a blue ring at the bottom`."""
    one, other, *_ = draft.shuffled_things()
    first, second = place(draft, one), place(draft, other)
    if not (first and second):
        return None
    return f"{some(draft, one)} {first} and {some(draft, other)} {second}"


def between(draft: Draft) -> str | None:
    """Write `a red star between a blue ring and a green house`."""
    for middle in draft.shuffled_things():
        one, other, *_ = [index for index in draft.shuffled_things() if index != middle] + [middle]
        if draft.holds("between", middle, one, other):
            draft.claim("between", middle, one, other)
            ends = f"between {some(draft, one)} and {some(draft, other)}"
            centre = some(draft, middle)
            return draft.pick((f"{centre} {draft.pick(('is', ''))} {ends}", f"{ends} there is {centre}"))
    return None


def in_order(draft: Draft) -> str | None:
    """Write `from left to right: a red star, a blue ring and a green house`."""
    fact, words = draft.pick((("left of", "left to right"), ("above", "top to bottom")))
    things = draft.scene.things
    axis: Callable[[int], int] = (lambda i: things[i].x) if fact == "left of" else (lambda i: things[i].y)
    order = sorted(range(len(things)), key=axis)
    pairs = list(pairwise(order))
    if not all(draft.holds(fact, *pair) for pair in pairs):
        return None
    for pair in pairs:
        draft.claim(fact, *pair)
    return f"{draft.pick(('from ', ''))}{words}: {listed([some(draft, index) for index in order])}"


def bigger(draft: Draft) -> str | None:
    """Write `a red star is bigger than the blue ring to its left`."""
    one, other, *_ = draft.shuffled_things()
    words = ("bigger than", "larger than")
    if draft.holds("bigger than", other, one):
        draft.claim("bigger than", other, one)
        words = ("smaller than", "smaller than")
    elif draft.holds("bigger than", one, other):
        draft.claim("bigger than", one, other)
    else:
        return None
    found = direction(draft, other, one) if draft.chance(0.7) else None
    where = draft.pick(found.of_it) if found else ""
    return f"{some(draft, one, size=0)} is {draft.pick(words)} {some(draft, other, size=0)} {where}"


def same_colour(draft: Draft) -> str | None:
    """Write `a star left of a ring, both red`."""
    one, other, *_ = draft.shuffled_things()
    found = relation(draft, one, other)
    if not found or not draft.holds("same colour", one, other):
        return None
    draft.claim("same colour", one, other)
    pair = f"{some(draft, one, colour=0)} {draft.pick(found.words)} {some(draft, other, colour=0)}"
    if draft.chance(0.2):
        return f"{pair} of the same colour"
    colour = draft.scene.things[one].colour
    draft.claim("colour", one, value=colour)
    draft.claim("colour", other, value=colour)
    return f"{pair}, both {colour}"


def counted(draft: Draft) -> str | None:
    """Write `three things: a red star above a blue ring, and a green house`."""
    one, other, *rest = draft.shuffled_things()
    found = relation(draft, one, other)
    if not found:
        return None
    count = COUNTS[len(rest) + 2]
    draft.claim("count", value=count)
    pair = f"{some(draft, one)} {draft.pick(found.words)} {some(draft, other)}"
    more = [f"{some(draft, index)} {place(draft, index) or ''}" for index in rest]
    body = f"{pair}, and {listed(more)}" if more else pair
    return f"{count} {draft.pick(PLURAL_NOUNS)}: {body}"


def chained(draft: Draft) -> str | None:
    """Write `a red star is left of a blue ring and below a green house`."""
    one, other, third, *_ = [*draft.shuffled_things(), None]
    if third is None:
        return None
    first, second = direction(draft, one, other), direction(draft, one, third)
    if not (first and second):
        return None
    subject = f"{some(draft, one)} {draft.pick(('is', 'sits', ''))} {draft.pick(first.words)} {some(draft, other)}"
    return f"{subject} and {draft.pick(second.words)} {some(draft, third)}"


def alone(draft: Draft) -> str | None:
    """Write `a small red star in the top left corner`."""
    one = draft.shuffled_things()[0]
    where = place(draft, one)
    return where and f"{draft.pick(OPENINGS)} {some(draft, one, size=0.7)} {where}"


def one_more(draft: Draft) -> str:
    """Add a thing not mentioned yet: `, and a green house below the star`; nothing where there is none."""
    left = draft.unmentioned()
    if not left:
        return ""
    seen = draft.pick([fact.things[0] for fact in sorted(draft.stated) if fact.kind == "shape"] or left)
    found = direction(draft, left[0], seen) if seen != left[0] and draft.chance(0.5) else None
    where = f"{draft.pick(found.words)} {the(draft, seen)}" if found else place(draft, left[0]) or ""
    return f"{draft.pick((', and', ', plus', ', and also'))} {some(draft, left[0])} {where}"


def listed(phrases: list[str]) -> str:
    """Join phrases with commas and a last `and`."""
    *most, last = phrases
    return f"{', '.join(most)} and {last}" if most else last


CLAUSES: dict[Clause, float] = {
    stands_to: 5,
    inverted: 2,
    with_another: 4,
    placed: 2,
    between: 2,
    in_order: 2,
    bigger: 1,
    same_colour: 1.5,
    counted: 2,
    chained: 2,
    alone: 0.7,
}
