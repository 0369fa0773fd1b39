"""What the reductions with gradients of their own owe to autograd, `torch.func` and the compiler."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hf_contrastive.functional import log_partition, log_partitions, self_log_partition, sigmoid_loss, uniformity
from tests.functional.dense import KEYS, POSITIVES, QUERIES, weighted
from tests.functional.rows import unit_rows


Reduction = Callable[[Tensor], Tensor]


def reductions(scale: float, keep_bytes: int) -> dict[str, Reduction]:
    y = unit_rows(KEYS, 4, seed=1)
    return {
        "log_partition": lambda x: weighted([log_partition(x, y, scale, keep_bytes=keep_bytes)]),
        "log_partitions": lambda x: weighted(log_partitions(x, y, scale, keep_bytes=keep_bytes)),
        "self_log_partition": lambda x: weighted([self_log_partition(x, scale, keep_bytes=keep_bytes)]),
        "sigmoid_loss": lambda x: sigmoid_loss(x, y, POSITIVES, scale, -2.0),
        "uniformity": lambda x: uniformity(x, t=scale, normalize=False),
    }


# Of the tiles of 4 x 4 doubles, 128 bytes each, 300 bytes keep two.
WAYS = {
    f"{name}, scale {scale:g}, keep {keep_bytes}": reductions(scale, keep_bytes)[name]
    for name in reductions(1.0, 0)
    for scale in (3.0, 3000.0)
    for keep_bytes in (2**28, 300, 0)
}
in_every_way = pytest.mark.parametrize("reduction", WAYS.values(), ids=WAYS.keys())
of_every_kind = pytest.mark.parametrize("name", reductions(1.0, 0))


def rows() -> Tensor:
    return unit_rows(QUERIES, 4).requires_grad_()


@in_every_way
def test_a_second_backward_pass_gives_the_same(reduction: Reduction, small_tiles: int):
    x = rows()
    value = reduction(x)
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    (second,) = torch.autograd.grad(value, x)
    assert second.equal(first)
    assert first.ne(0).any()


@in_every_way
def test_a_second_backward_pass_knows_nothing_of_the_first_one_s_gradient(reduction: Reduction, small_tiles: int):
    x = rows()
    value = reduction(x)
    (first,) = torch.autograd.grad(4.0 * value, x, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(-0.5 * value, x)
    torch.testing.assert_close(second, -kept / 8, rtol=1e-12, atol=0)
    assert first.equal(kept)


@in_every_way
def test_a_gradient_is_proportional_to_what_comes_in(reduction: Reduction, small_tiles: int):
    x = rows()
    (once,) = torch.autograd.grad(reduction(x), x)
    (scaled,) = torch.autograd.grad(-0.25 * reduction(x), x)
    torch.testing.assert_close(scaled, -0.25 * once, rtol=1e-12, atol=0)


@of_every_kind
def test_no_graph_is_made_where_none_is_wanted(name: str):
    reduction = reductions(3.0, 2**28)[name]
    assert reduction(rows()).requires_grad
    assert not reduction(rows().detach()).requires_grad
    with torch.no_grad():
        assert not reduction(rows()).requires_grad
        expected = reduction(rows())
    with torch.inference_mode():
        assert reduction(rows()).item() == expected.item() == reduction(rows()).item()


@of_every_kind
def test_a_second_derivative_is_refused_with_the_way_out(name: str, no_dense_way: None):
    x = rows()
    (gradient,) = torch.autograd.grad(reductions(3.0, 2**28)[name](x), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"can be differentiated once: .* write the loss with `torch.logsumexp`"):
        gradient.square().sum().backward()


@of_every_kind
def test_functional_gradients_are_the_same(name: str):
    reduction, x = reductions(3.0, 2**28)[name], rows()
    (expected,) = torch.autograd.grad(reduction(x), x)
    assert torch.func.grad(reduction)(x.detach()).equal(expected)


@of_every_kind
def test_inputs_are_left_as_they_were(name: str, small_tiles: int):
    x = rows()
    reductions(3000.0, 300)[name](x).backward()
    assert x.detach().equal(unit_rows(QUERIES, 4))


COMPILED = """
import torch
from hf_contrastive.functional import log_partition, log_partitions, self_log_partition, sigmoid_loss, uniformity
x, y = torch.randn(7, 4, requires_grad=True), torch.randn(9, 4)
for reduction in (
    lambda x: log_partition(2 * x, y, 3.0).sum(),
    lambda x: torch.cat(log_partitions(2 * x, y, 3.0)).square().sum(),
    lambda x: self_log_partition(2 * x, 3.0).sum(),
    lambda x: sigmoid_loss(2 * x, y, torch.arange(7), 3.0, -2.0),
    lambda x: uniformity(2 * x),
):
    compiled = torch.compile(reduction, backend="eager")
    assert compiled(x).equal(reduction(x))
    assert torch.autograd.grad(compiled(x), x)[0].equal(torch.autograd.grad(reduction(x), x)[0])
print("same")
"""


def test_compiled_code_computes_the_same():
    # In a process of its own: dynamo cannot look through the checks of shapes that run here.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.split() == ["same"], done.stderr
