import numpy as np
import torch
from torch.autograd import gradcheck

from hf_contrastive.functional.second_moments import second_moments
from tests.functional.dense import close
from tests.functional.rows import random_rows


def test_moments_are_those_of_numpy(tile: int):
    x = random_rows(11, 3) + 2
    rows, mean, scatter = second_moments(x)
    assert rows == 11
    close(mean, torch.from_numpy(x.numpy().mean(axis=0)), 1e-14)
    close(scatter / 10, torch.from_numpy(np.cov(x.numpy(), rowvar=False)), 1e-13)
    close(second_moments(x).covariance().trace() / 11, second_moments(x).floor(), 1e-14)


def test_joined_moments_are_those_of_all_rows():
    x, y = random_rows(5, 3), 4 + random_rows(9, 3, seed=1)
    close(second_moments(x).join(second_moments(y))[1:], second_moments(torch.cat([x, y]))[1:], 1e-13)


def test_single_precision_rows_far_from_the_origin_keep_their_spread():
    x = (1000 + random_rows(200, 2)).float()
    expected = torch.from_numpy(np.cov(x.double().numpy(), rowvar=False))
    close(second_moments(x).covariance(), expected, 1e-10)


def test_moments_about_the_origin_are_products_of_the_rows():
    x = 3 + random_rows(9, 4)
    close(second_moments(x).about_origin(), x.mT @ x, 1e-12)


def test_gradients_pass_through_every_block(tile: int):
    x = random_rows(7, 3).requires_grad_()
    assert gradcheck(lambda x: second_moments(x)[1:], x)
