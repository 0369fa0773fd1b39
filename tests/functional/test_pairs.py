import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import PairMask
from hf_contrastive.functional import pairs as pairs_module
from hf_contrastive.functional.tiles import blocks
from tests.functional.dense import IDS, KEY_IDS, KEYS, MASKS, POSITIVES, QUERIES, QUERY_IDS, pairs_of
from tests.functional.rows import unit_rows


def filled(mask: PairMask, x: Tensor, y: Tensor, scale: float, size: int) -> Tensor:
    """Logits after `mask` has been through all tiles of the given size."""
    logits = scale * x @ y.T
    for rows in blocks(len(x), size):
        for columns in blocks(len(y), size):
            mask.fill_(logits[rows, columns], rows, columns, torch.tensor(scale, dtype=torch.float64))
    return logits


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("size", [1, 2, 4, 100])
@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_left_out_pairs_become_minus_infinity_and_others_stay(mask: PairMask, size: int, scale: float):
    x, y = unit_rows(QUERIES, 4), unit_rows(KEYS, 4, seed=1)
    expected = (scale * x @ y.T).masked_fill(~pairs_of(mask, x, y), -torch.inf)
    assert filled(mask, x, y, scale, size).equal(expected)


def test_the_masks_of_these_tests_leave_out_what_they_say():
    # Else the comparisons with them would prove little.
    x, y = unit_rows(QUERIES, 4), unit_rows(KEYS, 4, seed=1)
    counts = {name: int((~pairs_of(mask, x, y)).sum()) for name, mask in MASKS.items()}
    assert counts["none"] == 0
    assert counts["no keys"] == QUERIES * KEYS
    assert counts["skip"] == QUERIES
    for left_out in ("ids", "ceiling"):
        assert QUERIES < counts[f"{left_out} but positives"] < counts[left_out] < QUERIES * KEYS
    assert counts["ids and ceiling but positives"] < counts["all"] < QUERIES * KEYS


def test_a_key_to_skip_goes_even_where_it_is_the_positive():
    mask = PairMask(**IDS, positives=POSITIVES, skip=POSITIVES)
    logits = filled(mask, unit_rows(QUERIES, 4), unit_rows(KEYS, 4, seed=1), 1.0, 4)
    assert logits[torch.arange(QUERIES), POSITIVES].isneginf().all()


def test_positives_alone_leave_nothing_out():
    logits = filled(PairMask(positives=POSITIVES), unit_rows(QUERIES, 4), unit_rows(KEYS, 4, seed=1), 1.0, 4)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [1, 4, 100])
def test_positives_are_found_once_each_over_all_tiles(size: int):
    found, mask = [], PairMask(positives=POSITIVES)
    for rows in blocks(QUERIES, size):
        for columns in blocks(KEYS, size):
            if (place := mask.positives_inside(rows, columns)) is not None:
                found += list(zip((place[0] + rows.start).tolist(), (place[1] + columns.start).tolist(), strict=True))
    assert sorted(found) == list(enumerate(POSITIVES.tolist()))


def test_a_tile_without_positives_says_so():
    assert PairMask().positives_inside(slice(0, 7), slice(0, 9)) is None
    assert PairMask(positives=POSITIVES).positives_inside(slice(0, 2), slice(1, 8)) is None


@pytest.mark.parametrize(
    ("given", "named"), [({"query_ids": QUERY_IDS}, "query_ids"), ({"key_ids": KEY_IDS}, "key_ids")]
)
def test_ids_of_one_side_alone_are_refused(given: dict[str, Tensor], named: str):
    message = rf"by comparing `query_ids` with `key_ids`, but only `{named}` came\.$"
    with pytest.raises(ValueError, match=message):
        PairMask(**given)


def test_a_mask_is_read_once_for_each_row_of_tiles(monkeypatch: pytest.MonkeyPatch):
    # Each read of an accelerator waits until all its work is done.
    read = []
    own = pairs_module._span
    monkeypatch.setattr(pairs_module, "_span", lambda keys: read.append(len(keys)) or own(keys))
    mask = PairMask(positives=torch.arange(QUERIES), skip=torch.arange(QUERIES))
    filled(mask, unit_rows(QUERIES, 4), unit_rows(KEYS, 4, seed=1), 1.0, 2)
    for columns in blocks(KEYS, 2):
        mask.positives_inside(slice(0, 2), columns)
    assert read == [2, 2, 2, 1, 2]


@pytest.mark.parametrize("name", sorted(MASKS))
@pytest.mark.parametrize("part", [slice(0, 4), slice(3, 8), slice(8, KEYS)], ids=str)
def test_the_mask_of_some_keys_leaves_out_what_the_whole_one_does_of_them(name: str, part: slice):
    x, y, mask, scale = unit_rows(QUERIES, 4), unit_rows(KEYS, 4, seed=1), MASKS[name], torch.tensor(1.0).double()
    whole, some = x @ y.T, x @ y[part].T
    mask.fill_(whole, slice(0, QUERIES), slice(0, KEYS), scale)
    mask.columns(part).fill_(some, slice(0, QUERIES), slice(0, part.stop - part.start), scale)
    assert some.isneginf().equal(whole[:, part].isneginf())
