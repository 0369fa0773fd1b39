import pytest
from datasets import Dataset

from hf_contrastive.evaluators import TextSimilarity
from tests.evaluators.encoders import Lookup


def pairs(scores: list[object]) -> Dataset:
    return Dataset.from_dict({"sentence1": ["0", "0", "0", "0"], "sentence2": ["0", "1", "2", "3"], "score": scores})


def angle(text: str) -> list[float]:
    return [1.0, 0.3 * float(text)]


def test_cosines_in_the_order_of_the_scores_are_perfect():
    assert TextSimilarity(pairs([5.0, 4.0, 1.0, 0.5]))(Lookup(text=angle)) == pytest.approx({"sts/spearman": 1.0})
    assert TextSimilarity(pairs([1, 2, 3, 9]), name="b")(Lookup(text=angle)) == pytest.approx({"b/spearman": -1.0})


def test_two_swapped_pairs_cost_what_the_formula_says():
    found = TextSimilarity(pairs([5.0, 1.0, 4.0, 0.5]))(Lookup(text=angle))
    # 1 - 6 * (sum of squared differences of ranks) / (n (n^2 - 1))
    assert found["sts/spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15), abs=1e-9)


def test_a_collapsed_model_ranks_nothing():
    found = TextSimilarity(pairs([5.0, 1.0, 4.0, 0.5]))(Lookup(text=lambda _: [1.0, 0.1]))
    assert found == {"sts/spearman": 0.0}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, 1.0, 1.0, 1.0], r"All 4 scores in column 'score' are 1\.0"),
        ([1.0, None, 1.0, 2.0], r"Row 1 has the score None"),
        ([1.0, 2.0, float("nan"), 2.0], r"Row 2 has the score nan"),
        (["a", "b", "c", "d"], r"Row 0 has the score 'a'"),
    ],
)
def test_scores_that_rank_nothing_are_refused(scores: list[object], message: str):
    with pytest.raises(ValueError, match=message):
        TextSimilarity(pairs(scores))


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="`columns` is 'a', but the dataset has the columns"):
        TextSimilarity(pairs([1, 2, 3, 4]), columns=("a", "sentence2"))
    with pytest.raises(ValueError, match="`score_column` is 'similarity'"):
        TextSimilarity(pairs([1, 2, 3, 4]), score_column="similarity")
