"""Captions: a clause, perhaps one thing more, perhaps the background, in a sentence that leaves things out."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from hf_contrastive.data.scenes.clauses import CLAUSES, alone, counted, in_order, one_more
from hf_contrastive.data.scenes.draft import Draft
from hf_contrastive.data.scenes.facts import Fact, facts_of
from hf_contrastive.data.scenes.phrases import adverbial, background_name
from hf_contrastive.data.scenes.scene import Scene


CAPTIONS_PER_SCENE = 3
WORDS = range(5, 29)
TELLING = 0.96
REDRAWS = 30


class Caption(NamedTuple):
    """A caption and what it states."""

    text: str
    facts: frozenset[Fact]


def write_captions(rng: random.Random, scene: Scene, siblings: Sequence[Scene]) -> list[Caption]:
    """Write independent captions of a scene, nearly all of which tell it from its siblings."""
    truths = facts_of(scene)
    others = [facts_of(sibling) for sibling in siblings if sibling != scene]
    return [_write_telling(rng, scene, truths, others) for _ in range(CAPTIONS_PER_SCENE)]


def _write_telling(
    rng: random.Random, scene: Scene, truths: frozenset[Fact], others: Sequence[frozenset[Fact]]
) -> Caption:
    """Write until no sibling fits the caption too; people are not always that careful, and some scenes are not."""
    tries = REDRAWS if rng.random() < TELLING else 1
    for _ in range(tries):
        caption = _write(Draft(rng, scene, truths))
        if not any(caption.facts <= other for other in others):
            break
    return caption


def _write(draft: Draft) -> Caption:
    while True:
        draft.stated.clear()
        text = _sentence(draft)
        if text and len(text.split()) in WORDS:
            return Caption(text, frozenset(draft.stated))


def _sentence(draft: Draft) -> str | None:
    (clause,) = draft.rng.choices(list(CLAUSES), list(CLAUSES.values()))
    body = clause(draft)
    if body is None:
        return None
    if clause not in (in_order, counted) and draft.chance(0.4):
        body += one_more(draft)
    if clause is alone or draft.chance(0.6):
        body = _with_background(draft, body)
    return _finished(draft, body)


def _with_background(draft: Draft, body: str) -> str:
    style = draft.rng.random()
    if style < 0.55:
        return f"{body}, {adverbial(draft)}"
    if style < 0.8 or ":" in body:
        return f"{adverbial(draft)}, {body}"
    return f"{background_name(draft)}: {body}"


def _finished(draft: Draft, body: str) -> str:
    text = " ".join(body.split()).replace(" ,", ",")
    if draft.chance(0.4):
        text = text[0].upper() + text[1:] + draft.pick((".", ""))
    return text
