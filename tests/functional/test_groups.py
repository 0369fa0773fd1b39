import torch

from hf_contrastive.functional.groups import one_row_per_id, sums_of_ids
from tests.functional.rows import random_rows, unit_rows


def test_matches_a_loop_over_rows():
    x = random_rows(7, 3).requires_grad_()
    ids, taken = [4, -1, 4, 9, -1, 4, 2], [True, True, False, True, False, True, False]
    sums, numbers = sums_of_ids(x, torch.tensor(ids), torch.tensor(taken))
    expected = []
    for i in range(7):
        alike = [j for j in range(7) if taken[i] and taken[j] and ids[j] == ids[i]]
        assert numbers[i] == len(alike)
        expected.append(sum((x[j] for j in alike), torch.zeros(3, dtype=torch.float64)))
    torch.testing.assert_close(sums, torch.stack(expected), rtol=0, atol=1e-12)

    weights = random_rows(7, 3, seed=1)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (sums, torch.stack(expected))]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_rows_that_do_not_count_may_hold_anything():
    x = torch.tensor([[float("nan")], [2.0], [3.0]], requires_grad=True)
    sums, numbers = sums_of_ids(x, torch.tensor([0, 0, 0]), torch.tensor([False, True, True]))
    assert sums.tolist() == [[0], [5], [5]]
    assert numbers.tolist() == [0, 2, 2]
    assert torch.autograd.grad(sums.sum(), x)[0].tolist() == [[0], [2], [2]]


def test_images_beside_several_captions_are_taken_once_and_captions_all():
    ids = torch.tensor([5, 2, 5, 9, 2])
    images = unit_rows(10, 8)[ids]
    assert one_row_per_id(images, ids).tolist() == [0, 1, 3]
    assert one_row_per_id(unit_rows(5, 8), ids).tolist() == [0, 1, 2, 3, 4]


def test_one_pair_of_different_photos_keeps_all():
    ids = torch.tensor([5, 2, 5, 2, 2])
    images = unit_rows(10, 8)[ids]
    images[4] = unit_rows(1, 8, seed=3)[0]
    assert one_row_per_id(images, ids).tolist() == [0, 1, 2, 3, 4]


def test_rows_that_are_no_numbers_coincide_with_none():
    ids = torch.tensor([5, 2, 5])
    images = unit_rows(10, 8)[ids]
    images[2] = float("nan")
    # All stay, so that whoever measures them next refuses the row.
    assert one_row_per_id(images, ids).tolist() == [0, 1, 2]
