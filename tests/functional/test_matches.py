import pytest
import torch

from hf_contrastive.functional.matches import Matches, folds_of_items, item_numbers
from tests.functional.dense import close
from tests.functional.rows import unit_rows


X_IDS, Y_IDS = torch.tensor([4, 7, 4, 9, 1]), torch.tensor([7, 4, 4, 4, 9, 9, 2])


def test_all_pairs_of_one_id_match_and_all_others_do_not(tile: int):
    x, y = unit_rows(5, 3), unit_rows(7, 3, seed=1)
    matches = Matches(x, y, X_IDS, Y_IDS)
    same = X_IDS.unsqueeze(1) == Y_IDS
    close(matches.matched(), (x @ y.T)[same], 1e-14)
    close(torch.cat(list(matches.unmatched())).sort().values, (x @ y.T)[~same].sort().values, 1e-14)
    assert matches.num_unmatched == 35 - 9


def test_without_ids_row_i_matches_row_i():
    x, y = unit_rows(5, 3), unit_rows(5, 3, seed=1)
    close(Matches(x, y, None, None).matched(), (x * y).sum(dim=1), 1e-14)


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        ((5, 4), (None, None), r"as many rows of `x` as of `y`, but got 5 and 4\. Pass the item"),
        ((5, 5), (X_IDS, None), "`x_ids` and `y_ids` go together"),
        ((5, 4), (X_IDS, Y_IDS), r"`y_ids` must hold one id for each of 4 rows, but got shape \[7\]"),
        ((5, 7), (X_IDS, Y_IDS + 100), "but no rows match"),
        ((1, 1), (None, None), "but all rows match"),
    ],
)
def test_refuses_what_leaves_nothing_to_compare(rows, ids, message: str):
    with pytest.raises(ValueError, match=message):
        Matches(unit_rows(rows[0], 3), unit_rows(rows[1], 3, seed=1), *ids)


def test_rows_of_one_item_share_a_part_and_parts_are_alike_in_size():
    x_ids, y_ids = torch.arange(20), torch.arange(20).repeat_interleave(5)
    parts = folds_of_items(*item_numbers(unit_rows(20, 3), unit_rows(100, 3), x_ids, y_ids), 4, 0)
    assert parts[1].equal(parts[0].repeat_interleave(5))
    assert parts[0].bincount().tolist() == [5] * 4


def test_rows_of_clouds_of_different_sizes_are_different_items():
    items = item_numbers(unit_rows(3, 3), unit_rows(4, 3), None, None)
    assert torch.cat(items).tolist() == list(range(7))


def test_too_few_items_cannot_be_dealt():
    items = torch.tensor([0, 0, 0, 1])
    with pytest.raises(ValueError, match=r"`x` must show enough items for 3 parts, but its rows fill 2 of them\."):
        folds_of_items(items, items, 3, 0)
