"""Two ideal readers, which show how well captions can be told apart with and without what is bound to what."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations

from hf_contrastive.data.scenes.facts import Fact, facts_of
from hf_contrastive.data.scenes.scene import Scene


Facts = frozenset[Fact]
Words = frozenset[tuple[str, str, int]]


def ideal_recall(captions: Sequence[Facts], scenes: Sequence[Scene]) -> float:
    """Return the expected R@1 of a reader who finds every scene that a caption is true of, and picks one of them."""
    return _expected_recall(captions, scenes, fits)


def bag_recall(captions: Sequence[Facts], scenes: Sequence[Scene]) -> float:
    """Return the expected R@1 of a reader who knows which words a caption has, and how often, but not their order."""
    return _expected_recall(captions, scenes, lambda _caption, _truths: True)


def fits(caption: Facts, truths: Facts) -> bool:
    """Tell whether the caption is true of a scene, whichever of its things the caption may be about."""
    mentioned = sorted(_things(caption))
    return any(
        _renamed(caption, dict(zip(mentioned, chosen, strict=True))) <= truths
        for chosen in permutations(sorted(_things(truths)), len(mentioned))
    )


def words_of(facts: Iterable[Fact]) -> Words:
    """Forget which things the facts are about: keep only the words, numbered where one occurs several times."""
    counts = Counter((fact.kind, fact.value) for fact in facts)
    return frozenset((*word, number) for word, count in counts.items() for number in range(count))


def _expected_recall(
    captions: Sequence[Facts], scenes: Sequence[Scene], chooses: Callable[[Facts, Facts], bool]
) -> float:
    truths = [facts_of(scene) for scene in scenes]
    bags = [words_of(facts) for facts in truths]
    total = 0.0
    for caption in captions:
        words = words_of(caption)
        total += 1 / sum(words <= bag and chooses(caption, facts) for bag, facts in zip(bags, truths, strict=True))
    return total / len(captions)


def _things(facts: Facts) -> set[int]:
    return {index for fact in facts for index in fact.things}


def _renamed(facts: Facts, names: dict[int, int]) -> Facts:
    return frozenset(Fact(fact.kind, tuple(names[index] for index in fact.things), fact.value) for fact in facts)
