from collections import Counter

import numpy as np
import pytest

from hf_contrastive.data.distinct import codes_of, count_distinct_groups, distinct_groups


CASES = {
    "all different": (list(range(50)), 8),
    "pairs": ([i // 2 for i in range(50)], 8),
    "one very frequent": ([0] * 30 + list(range(1, 31)), 4),
    "two values fill it": ([0] * 10 + [1] * 7, 2),
    "long tail": ([i for i in range(20) for _ in range(1 + 60 // (i + 1))], 6),
    "size one": ([0, 0, 0], 1),
}


def largest_number_of_groups(codes: list[int], size: int) -> int:
    """By construction: fill each group with one of each of the codes of which most is left."""
    left = Counter(codes)
    groups = 0
    while len(left) >= size:
        for code, _ in left.most_common(size):
            left[code] -= 1
        left = +left
        groups += 1
    return groups


@pytest.mark.parametrize("case", CASES)
def test_no_group_has_a_value_twice_and_no_row_comes_twice(case: str):
    values, size = CASES[case]
    codes = codes_of(values)
    groups = distinct_groups(codes, size, np.random.default_rng(0))
    assert groups.shape == (count_distinct_groups(codes, size), size)
    assert all(len(set(codes[group])) == size for group in groups)
    assert len(set(groups.ravel().tolist())) == groups.size


@pytest.mark.parametrize("case", CASES)
def test_there_are_as_many_groups_as_can_be(case: str):
    values, size = CASES[case]
    assert count_distinct_groups(codes_of(values), size) == largest_number_of_groups(values, size)


def test_too_few_values_make_no_group():
    codes = codes_of([0, 1, 0, 1])
    assert distinct_groups(codes, 3, np.random.default_rng(0)).shape == (0, 3)


def test_without_duplicates_rows_are_grouped_at_random():
    # Of 40 rows in groups of 4, row 0 shares its group with each other row in 3 of 39 epochs.
    codes = codes_of(list(range(40)))
    companions: Counter[int] = Counter()
    for seed in range(2000):
        groups = distinct_groups(codes, 4, np.random.default_rng(seed))
        companions.update(next(group for group in groups.tolist() if 0 in group))
    del companions[0]
    expected = 2000 * 3 / 39
    # Five standard deviations of a binomial count.
    assert all(abs(count - expected) < 5 * expected**0.5 for count in companions.values())
    assert len(companions) == 39


def test_rows_of_a_value_are_at_no_fixed_place_of_their_group():
    codes = codes_of([0] * 5 + list(range(1, 16)))
    places = Counter(
        int(np.flatnonzero(codes[group] == 0)[0])
        for seed in range(400)
        for group in distinct_groups(codes, 4, np.random.default_rng(seed))
        if 0 in codes[group]
    )
    # 5 groups in 400 epochs at 4 places: 500 each, and five standard deviations.
    assert all(abs(places[place] - 500) < 5 * 500**0.5 for place in range(4))


def test_integers_and_strings_tell_rows_apart():
    assert codes_of(["b", 3, "b", 1, 3]).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("value", [None, 1.5, True, ["a"]])
def test_values_that_tell_nothing_apart_are_refused_with_their_row(value: object):
    with pytest.raises(ValueError, match=r"integers or strings, one per row, but row 1 has"):
        codes_of(["a", value])
