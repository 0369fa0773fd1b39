import re

import pytest
import torch
from torch.autograd import gradcheck

from hf_contrastive.functional.checks import (
    as_embeddings,
    as_scalar,
    check_labels,
    check_paired,
    check_positive,
    check_same_width,
    refuse_nonfinite,
    working_dtype,
)
from tests.functional.rows import random_rows


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_row_that_is_not_finite_is_named(value: float, normalize: bool):
    x = random_rows(6, 4)
    x[3, 1] = x[5, 0] = value
    with pytest.raises(ValueError, match=r"^`images` holds rows that are not finite: row 3 is the first of 2\.$"):
        as_embeddings(x, "images", normalize=normalize)


def test_infinities_that_cancel_are_refused():
    with pytest.raises(ValueError, match="row 1 is the first of 1"):
        refuse_nonfinite(torch.tensor([[0.0, 0.0], [float("inf"), -float("inf")]]), "x")


def test_finite_rows_whose_sum_overflows_pass():
    refuse_nonfinite(torch.full((4, 2), 3e38), "x")


def test_no_rows_at_all_are_finite():
    refuse_nonfinite(torch.empty(0, 3), "x")


def test_the_first_row_of_zeros_is_named_with_the_remedy():
    x = random_rows(6, 4)
    x[[2, 4, 5]] = 0
    with pytest.raises(ValueError, match=r"`texts` holds rows of zeros.*row 2 is the first of 3.*`normalize=False`"):
        as_embeddings(x, "texts")


def test_rows_of_zeros_pass_without_normalization():
    assert as_embeddings(torch.zeros(2, 3), "x", normalize=False).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_a_tensor_without_fractions_is_refused(dtype: torch.dtype):
    message = rf"^`x` must be a floating-point tensor of embeddings, but got {re.escape(str(dtype))}\.$"
    with pytest.raises(TypeError, match=message):
        as_embeddings(torch.ones(3, 2, dtype=dtype), "x")


def test_a_list_is_refused():
    # Past the shape checks of the test run, which users do not have.
    with pytest.raises(TypeError, match=r"^`x` must be a floating-point tensor of embeddings, but got list\.$"):
        getattr(as_embeddings, "__wrapped__", as_embeddings)([[1.0, 2.0]], "x")


@pytest.mark.parametrize(
    ("shape", "words"), [((3,), r"\[3\]"), ((2, 3, 4), r"\[2, 3, 4\]"), ((), r"\[\]")], ids=["1-D", "3-D", "0-D"]
)
def test_anything_but_a_matrix_is_refused(shape: tuple[int, ...], words: str):
    with pytest.raises(ValueError, match=rf"^`x` must have shape \(rows, width\), but got shape {words}\.$"):
        as_embeddings(torch.ones(shape), "x")


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"^`x` must have at least 2 rows, but got shape \[1, 4\]\.$"):
        as_embeddings(random_rows(1, 4), "x", min_rows=2)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_promoted_and_the_rest_kept(given: torch.dtype, returned: torch.dtype, normalize: bool):
    assert as_embeddings(random_rows(3, 4).to(given), "x", normalize=normalize).dtype == returned


def test_rows_get_unit_length_and_keep_their_direction():
    x = random_rows(5, 4)
    rows = as_embeddings(x, "x")
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(rows * x.norm(dim=1, keepdim=True), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [1e-30, 1e20, 3e38])
def test_extreme_rows_in_single_precision_get_unit_length_too(size: float):
    rows = as_embeddings(torch.full((2, 4), size), "x")
    torch.testing.assert_close(rows, torch.full((2, 4), 0.5), rtol=1e-6, atol=0)


def test_normalization_is_differentiated():
    assert gradcheck(lambda x: as_embeddings(x, "x"), random_rows(3, 4).requires_grad_())


def test_rows_of_different_widths_are_refused():
    with pytest.raises(
        ValueError, match=r"^`x` and `y` must have the same width, but got shapes \[3, 4\] and \[2, 5\]"
    ):
        check_same_width(torch.ones(3, 4), torch.ones(2, 5), "`x` and `y`")
    check_same_width(torch.ones(3, 4), torch.ones(2, 4), "`x` and `y`")


@pytest.mark.parametrize("other", [(2, 4), (3, 5)])
def test_pairs_of_different_shapes_are_refused(other: tuple[int, int]):
    message = (
        rf"^`x` and `y` must match row by row, so have one shape, but got \[3, 4\] and \[{other[0]}, {other[1]}\]"
    )
    with pytest.raises(ValueError, match=message):
        check_paired(torch.ones(3, 4), torch.ones(other), "`x` and `y`")
    check_paired(torch.ones(3, 4), torch.ones(3, 4), "`x` and `y`")


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_number_that_is_not_positive_and_finite_is_refused(value: float):
    with pytest.raises(ValueError, match=rf"^`t` must be positive and finite, but got {value}\.$"):
        check_positive(value, "t")
    check_positive(1e-300, "t")


def test_a_python_number_is_not_rounded_to_single_precision():
    # By default torch makes a tensor in single precision of it.
    assert as_scalar(0.1, "scale", random_rows(1, 1)).item() == 0.1
    scale = torch.tensor([0.1], requires_grad=True)
    as_scalar(scale, "scale", random_rows(1, 1)).backward()
    assert scale.grad is not None


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([torch.float16], torch.float32),
        ([torch.bfloat16, torch.float16], torch.float32),
        ([torch.float16, torch.float64], torch.float64),
    ],
)
def test_work_is_done_in_the_most_precise_type_and_at_least_in_single(types: list[torch.dtype], expected: torch.dtype):
    assert working_dtype(*(torch.ones(1, dtype=dtype) for dtype in types)) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"^`labels` must be one for each of 3 rows, but got shape \[2\]\.$"),
        ([0, 4, 1], r"^`labels` must be from 0 to 3, but row 1 has 4\.$"),
        ([0, 1, -100], r"^`labels` must be from 0 to 3, but row 2 has -100\.$"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        check_labels(torch.tensor(labels), 3, 4)
