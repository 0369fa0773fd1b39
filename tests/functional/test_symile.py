import pytest
import torch

from hf_contrastive.functional.symile import multilinear_inner_product, shifted_products, shifted_rows
from tests.functional.rows import random_rows


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_the_product_matches_a_loop(modalities: int):
    embeds = [random_rows(4, 3, seed) for seed in range(modalities)]
    for i, value in enumerate(multilinear_inner_product(embeds)):
        expected = 0.0
        for k in range(3):
            entry = 1.0
            for x in embeds:
                entry *= x[i, k].item()
            expected += entry
        assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rows", range(1, 12))
@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_products_are_of_as_many_items_as_can_be(rows: int, modalities: int):
    shifts = shifted_rows(rows, modalities)
    assert shifts[0] == 0
    assert len({shift % rows for shift in shifts}) == min(rows, modalities)


def test_the_first_row_stays_and_the_others_come_from_further_down():
    embeds = [torch.tensor([[2.0], [3.0], [5.0], [7.0]]), torch.tensor([[11.0], [13.0], [17.0], [19.0]])]
    assert shifted_products(embeds).squeeze(1).tolist() == [2 * 17, 3 * 19, 5 * 11, 7 * 13]


def test_products_of_no_rows_are_none():
    assert shifted_products([torch.zeros(0, 3), torch.zeros(0, 3)]).shape == (0, 3)
