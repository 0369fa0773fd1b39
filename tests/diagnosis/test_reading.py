"""The sentences beside plots: each speaks where its values are, and only there."""

import re
from typing import Any

import pytest

from hf_contrastive.diagnosis import Diagnosis
from hf_contrastive.diagnosis.curves import Side, sides_of
from hf_contrastive.diagnosis.plots import MODEL_PLOTS, PAIR_PLOTS
from hf_contrastive.diagnosis.reading import Reading
from hf_contrastive.diagnosis.reading_facts import histogram_auc, model_facts, plot_facts
from hf_contrastive.diagnosis.result import CosineHistogram
from hf_contrastive.functional import matched_auc
from tests.diagnosis.conftest import clouds


READINGS = {words.name: words for words, _ in (*MODEL_PLOTS, *PAIR_PLOTS)}
NAN = float("nan")
OPEN = {"gap": 0.4, "gap_floor": 0.04, "separability": 1.0}
SHUT = {"gap": 0.04, "gap_floor": 0.04, "separability": 0.6}
TRIAL = {"r1_none": 0.5, "trial_error": 0.02, "gap_none": 0.4, "gap_mean_shift": 0.05}
# By plot, values and what is said of them, in the order of the cases.
CASES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "composition": [
        ({"total": 0.014, "control": 0.01}, r"0\.014 is no more than sampling can make \(0\.010 between two halves\): nothing"),
        ({"total": 0.5, "largest": "centers"}, r"centers \(70% of the distance\): try a mean shift"),
        ({"total": 0.5, "largest": "spread"}, r"spread \(70% of the distance\).*whitening, or `align_uniform`"),
        ({"total": 0.5, "largest": "spectrum"}, r"spectrum \(70% of the distance\).*whitening, or `vicreg`"),
        ({"total": 0.5, "largest": "orientation"} | OPEN, r"orientation \(70% of the distance\), which no shift.*`clip_div"),
        ({"total": 0.5, "largest": "orientation"} | SHUT, r"orientation \(70% of a small distance\): the centers are together"),
    ],
    "gap": [
        (OPEN, r"0\.400 apart where sampling makes 0\.040: try a mean shift"),
        (SHUT | {"separability": 0.9}, r"coincide but a linear rule still tells.*0\.900 right\): try whitening"),
        (OPEN | {"separability": 0.6}, r"0\.400 apart .* but the clouds overlap \(0\.600 told apart"),
        (SHUT, r"a gap of 0\.040 where sampling makes 0\.040, and 0\.600 told apart.*nothing to try"),
    ],
    "clouds": [
        (OPEN | {"seen": 0.99}, r"The 0\.400 between the centers of image and text are all in the picture.*30% of the variance"),
        (OPEN, r"The 0\.400 between the centers of image and text are partly hidden.*show 50% of it: look along the gap"),
        (SHUT | {"separability": 0.9}, r"coincide but a linear rule tells.*try whitening"),
        (OPEN | {"separability": 0.6}, r"0\.400 apart .* but the clouds overlap \(0\.600 told apart"),
        (SHUT | {"share": 0.1}, r"hold 10% of the variance only, so trust the gap of 0\.040"),
        (SHUT, r"lie on each other \(gap 0\.040, sampling makes 0\.040\): nothing"),
    ],
    "cosines": [
        ({"matched": 0.11, "r1": 0.001}, r"\(0\.110\) are no nearer than permuted ones \(0\.100\): check that row i"),
        ({"unmatched": 0.6}, r"unmatched rows have a mean cosine of 0\.60, for they share a direction: try a mean shift"),
        ({"unmatched": -0.2}, r"mean cosine of -0\.20, for the centers point apart"),
        ({"auc": 0.8}, r"in 80\.0% of cases: try longer training"),
        ({}, r"in 99\.0% of cases.*R@1 lacks \(0\.300\).*1000 things: try hard negatives"),
    ],
    "spectra": [
        ({"rows": 100}, r"With 100 rows of width 128 this is rough"),
        ({"lowest_rank": 10.0}, r"Text uses 10\.0 directions where a round cloud shows 120: try a smaller width"),
        ({"highest_rank": 90.0}, r"Image uses 90\.0 directions and text 50\.0: try whitening each"),
        ({}, r"Text uses 50\.0 directions where a round cloud shows 120\.0: nothing"),
    ],
    "norms": [
        ({"variation_ratio": 0.0}, r"All rows of text have one length"),
        ({"variation_ratio": 3.0}, r"vary 3\.0 times as much as a Gaussian's: search by cosine"),
        ({"variation_ratio": 0.5}, r"vary 0\.5 times as much as a Gaussian's, a thin shell"),
        ({"variation_ratio": 1.1}, r"about as much as a Gaussian's \(1\.1 times\): nothing"),
    ],
    "coordinates": [
        ({"tail": 3.1}, r"heavy \(3\.10 where a Gaussian has 2\.57\).*`sliced_gaussian`"),
        ({"tail": 2.2}, r"light \(2\.20 where a Gaussian has 2\.57\)"),
        ({"tail": 2.5}, r"a Gaussian's \(2\.50 against 2\.57\): nothing"),
    ],
    "potential": [
        (OPEN | {"separability": 0.6, "barrier": 4.0}, r"clouds overlap \(0\.600 told apart.*up to 4\.00\) hold nothing apart"),
        (OPEN | {"barrier": 1.2}, r"Text must climb 1\.20 to reach the other center.*`clip_divergence`"),
        (OPEN, r"no hill between the centers \(at most 0\.10\).*little resistance"),
        (SHUT | {"barrier": 4.0}, r"no gap that a hill could keep open \(highest climb 4\.00\): nothing"),
    ],
    "shift": [
        (TRIAL | {"r1_mean_shift": NAN}, r"cannot be centered"),
        (TRIAL | {"r1_mean_shift": 0.56}, r"lifts R@1 from 0\.500 to 0\.560: subtract"),
        (TRIAL | {"r1_mean_shift": 0.44}, r"lowers R@1 from 0\.500 to 0\.440: do not center"),
        (TRIAL | OPEN | {"r1_mean_shift": 0.51}, r"from 0\.400 to 0\.050 and leaves R@1 what it was"),
        (TRIAL | SHUT | {"r1_mean_shift": 0.51}, r"closed as it is, and a mean shift leaves R@1 at 0\.510 \(0\.500 before\)"),
    ],
    "temperature": [
        ({"loss_at_best": 6.9}, r"No temperature does better than chance \(loss 6\.900 at best, chance 6\.908\)"),
        ({"own": None, "loss_at_own": None}, r"No temperature came.*try 0\.0200"),
        ({"loss_at_own": 3.0}, r"temperature of 0\.0100 has a loss of 3\.000.*try 0\.0200 \(2\.000\)"),
        ({"loss_at_own": 2.05}, r"temperature of 0\.0100 is as good as the best, 0\.0200 \(loss 2\.050 and 2\.000\)"),
    ],
    "hubness": [
        ({"recall_low": 0.1}, r"From image to text, R@1 is 0\.100 where matches are seldom found and 0\.400.*try whitening"),
        ({"recall_low": 0.3}, r"depends little on hubs \(at most from 0\.300 to 0\.400, image to text\): nothing"),
    ],
    "occurrences": [
        ({"antihubs": 0.3}, r"^30% of text are never found from image: try a mean shift"),
        ({"skewness": 2.5}, r"A few text are found by too many \(up to 90 queries, chance 20\)"),
        ({}, r"no hubs to speak of \(skewness 0\.40 of text, chance 0\.30; 1\.0% never found\)"),
    ],
}  # fmt: skip
# What no case looks at unless it names it.
FACTS: dict[str, Any] = {
    "first": "image", "second": "text", "total": 0.5, "control": 0.01, "largest_share": 0.7, "share": 0.3, "seen": 0.5, "matched": 0.7,
    "permuted": 0.1, "chance": 0.001, "r1_error": 0.001, "cosine_error": 0.005, "loss_of_chance": 6.908, "unmatched": 0.1, "auc": 0.99, "r1": 0.3, "items": 1000, "rows": 1000, "width": 128, "lowest": "text",
    "lowest_rank": 50.0, "highest": "image", "highest_rank": 60.0, "isotropic_rank": 120.0, "odd": "text", "heavy": "text",
    "gaussian_tail": 2.57, "barrier": 0.1, "climber": "text", "own": 0.01, "best": 0.02, "loss_at_best": 2.0, "query": "image",
    "key": "text", "recall_high": 0.4, "uneven_query": "image", "uneven_key": "text", "antihubs": 0.01, "skewness": 0.4,
    "chance_antihubs": 0.001, "chance_skewness": 0.3, "top": 90.0, "chance_top": 20.0,
}  # fmt: skip


def test_every_plot_has_its_cases():
    assert {name: len(words.cases) for name, words in READINGS.items()} == {n: len(c) for n, c in CASES.items()}


@pytest.mark.parametrize(("name", "place"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_the_case_of_the_values_speaks(name: str, place: int):
    words: Reading = READINGS[name]
    values, sentence = CASES[name][place]
    facts = FACTS | values
    assert next(i for i, (applies, _) in enumerate(words.cases) if applies(facts)) == place
    said = words.advice(facts)
    assert re.search(sentence, said)
    assert re.fullmatch(r"[A-Z0-9][^.]*(?:\.(?=\d)[^.]*)*\.", said)


def test_a_difference_within_its_error_is_no_matter_of_hubs():
    said = READINGS["hubness"].advice(FACTS | {"recall_low": 0.0, "recall_high": 0.003})
    assert said.startswith("R@1 depends little on hubs (at most from 0.000 to 0.003")


@pytest.fixture(scope="module")
def sides(diagnosis: Diagnosis) -> list[Side]:
    return sides_of(diagnosis)


def test_every_sentence_is_filled_from_what_was_measured(sides: list[Side]):
    for side in sides:
        known = {"model": model_facts(side), "pair": plot_facts(side, "image", "text")}
        for words in READINGS.values():
            facts = known[words.scope]
            for text in (words.how, words.alt, *(says for _, says in words.cases)):
                if facts.get("own", 0.01) is None and "{own" in text:
                    continue
                assert "{" not in text.format(**facts)
            assert words.advice(facts)


def test_facts_are_of_the_modality_that_stands_out(sides: list[Side]):
    side = sides[0]
    facts = model_facts(side)
    ranks = {m: side.one.metrics[f"geometry/effective_rank_{m}"] for m in ("image", "text")}
    assert facts["lowest_rank"] == min(ranks.values()) == ranks[facts["lowest"]]
    assert facts["highest_rank"] == max(ranks.values()) == ranks[facts["highest"]]
    pair = plot_facts(side, "image", "text")
    parts = side.one.pairs[0].composition
    beyond = {p: parts.clouds[p] - parts.clouds_control[p] for p in ("centers", "spread", "spectrum", "orientation")}
    assert beyond[pair["largest"]] == max(beyond.values())
    assert pair["recall_high"] >= pair["recall_low"]


def test_the_auc_of_a_histogram_is_that_of_its_rows(sides: list[Side]):
    x = clouds()
    exact = float(matched_auc(x["image"], x["text"]))
    assert histogram_auc(sides[0].one.pairs[0].cosines) == pytest.approx(exact, abs=0.02)
    edges, left, right = (-1.0, 0.0, 1.0), (1.0, 0.0), (0.0, 1.0)
    apart = CosineHistogram(edges=edges, matched=right, unmatched=left, permuted=left, means={})
    assert histogram_auc(apart) == 1.0
    same = CosineHistogram(edges=edges, matched=left, unmatched=left, permuted=left, means={})
    assert histogram_auc(same) == 0.5
