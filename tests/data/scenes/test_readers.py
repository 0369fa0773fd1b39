from hf_contrastive.data.scenes.facts import Fact, facts_of
from hf_contrastive.data.scenes.readers import bag_recall, fits, ideal_recall
from hf_contrastive.data.scenes.sampling import Sample
from hf_contrastive.data.scenes.scene import Scene, Thing


RED_STAR = Thing("star", "red", "plain", 14, x=14, y=32)
BLUE_RING = Thing("ring", "blue", "plain", 14, x=48, y=32)
BLUE_STAR = Thing("star", "blue", "plain", 14, x=14, y=32)
RED_RING = Thing("ring", "red", "plain", 14, x=48, y=32)
A_RED_STAR = frozenset({Fact("shape", (1,), "star"), Fact("colour", (1,), "red")})


def test_a_caption_fits_whichever_thing_it_may_be_about() -> None:
    assert fits(A_RED_STAR, facts_of(Scene("sand", 0, (RED_STAR, BLUE_RING))))
    assert not fits(A_RED_STAR, facts_of(Scene("sand", 0, (BLUE_STAR, RED_RING))))


def test_only_binding_tells_siblings_apart() -> None:
    siblings = [Scene("sand", 0, (RED_STAR, BLUE_RING)), Scene("sand", 0, (BLUE_STAR, RED_RING))]
    assert ideal_recall([A_RED_STAR], siblings) == 1
    assert bag_recall([A_RED_STAR], siblings) == 0.5


def test_the_test_split_is_easy_to_read_and_hard_for_a_bag_of_words(test_samples: list[Sample]) -> None:
    scenes = [sample.scene for sample in test_samples]
    captions = [sample.captions[0].facts for sample in test_samples]
    assert ideal_recall(captions, scenes) >= 0.85
    assert bag_recall(captions, scenes) <= 0.45
