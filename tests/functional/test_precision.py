"""How exact the reductions are in single precision, on half-precision rows, and inside `autocast`."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.functional import (
    PairMask,
    info_nce,
    log_partition,
    log_partitions,
    self_log_partition,
    sigmoid_loss,
    uniformity,
)
from tests.functional.dense import dense_log_partitions, relative_error, weighted
from tests.functional.rows import unit_rows


N, WIDTH = 24, 16
OWN = torch.arange(N)
ALL, SOME, NONE = 2**28, 100, 0  # 100 bytes keep one of the tiles of 4 x 4, in either precision
keeping = pytest.mark.parametrize("keep_bytes", [ALL, SOME, NONE], ids=["keep all", "keep some", "keep none"])


def cloud(seed: int = 0, noise: float = 1.0) -> Tensor:
    """Unit rows around one point, in single precision: the less noise, the nearer."""
    center = torch.eye(WIDTH, dtype=torch.float64)[0]
    return F.normalize(center + noise * unit_rows(N, WIDTH, seed), dim=1).float()


def pairs(noise: float) -> tuple[Tensor, Tensor]:
    """Unit rows and their partners: the less noise, the more certain each row is of its own."""
    x = unit_rows(N, WIDTH)
    return x.float(), F.normalize(x + noise * unit_rows(N, WIDTH, seed=1), dim=1).float()


def gradients(value: Callable[..., Tensor], *inputs: Tensor, dtype: torch.dtype = torch.float32) -> Sequence[Tensor]:
    inputs = [z.detach().to(dtype).requires_grad_() for z in inputs]
    return torch.autograd.grad(value(*inputs), inputs)


# ---- Single precision ----


@pytest.mark.parametrize("upstream", [1e-8, 1.0, 65536.0])
@pytest.mark.parametrize("scale", [1.0, 30.0, 55.0, 65.0, 75.0, 82.0, 100.0, 1000.0])
@pytest.mark.parametrize("side", [1, -1], ids=["near", "opposite"])
def test_single_precision_is_exact_at_any_scale_and_size_of_gradient(side: int, scale: float, upstream: float):
    # Logits near plus or minus the scale: their exponentials fill the range of the format. Small weights and loss
    # scalers multiply the gradient.
    x, y = cloud(noise=0.1), side * cloud(seed=1, noise=0.1)

    def ours(x: Tensor, y: Tensor) -> Tensor:
        return upstream * (weighted(log_partitions(x, y, scale)) + weighted([self_log_partition(x, scale)]))

    def theirs(x: Tensor, y: Tensor) -> Tensor:
        s = torch.tensor(scale, dtype=torch.float64)
        inside = dense_log_partitions(x, x, s, PairMask(skip=OWN))[0]
        return upstream * (weighted(dense_log_partitions(x, y, s)) + weighted([inside]))

    with torch.no_grad():
        assert ours(x, y).item() == pytest.approx(theirs(x.double(), y.double()).item(), rel=1e-5)
    # Logits are off by about 1e-7 of the scale, and so is each softmax, relatively.
    expected = gradients(theirs, x, y, dtype=torch.float64)
    assert relative_error(gradients(ours, x, y), expected) < 2e-6 + 5e-7 * scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rows_are_summed_in_single(dtype: torch.dtype):
    x, y = (z.to(dtype).requires_grad_() for z in pairs(1.0))
    scale = torch.tensor(20.0, dtype=dtype, requires_grad=True)
    single = [z.detach().float().requires_grad_() for z in (x, y, scale)]
    for reduction in (
        lambda x, y, scale: weighted(log_partitions(x, y, scale)),
        lambda x, y, scale: weighted([log_partition(x, y, scale)]),
        lambda x, y, scale: weighted([self_log_partition(y, scale)]) + 0 * x.float().sum(),
        lambda x, y, scale: sigmoid_loss(x, y, OWN, scale, -3.0),
    ):
        actual, expected = reduction(x, y, scale), reduction(*single)
        assert actual.dtype == torch.float32
        assert actual.equal(expected)
        for ours, theirs in zip(
            torch.autograd.grad(actual, (x, y, scale)), torch.autograd.grad(expected, single), strict=True
        ):
            assert ours.dtype == dtype
            assert ours.equal(theirs.to(dtype))


# ---- Autocast ----


def dense_clip(x: Tensor, y: Tensor, scale: float) -> Tensor:
    logits = scale * x @ y.T
    return (F.cross_entropy(logits, OWN) + F.cross_entropy(logits.T, OWN)) / 2


def dense_siglip(x: Tensor, y: Tensor, scale: float, bias: float) -> Tensor:
    labels = (2 * torch.eye(len(x)) - 1).to(x.dtype)
    return -F.logsigmoid(labels * (scale * x @ y.T + bias)).sum() / len(x)


def dense_uniformity(x: Tensor, t: float) -> Tensor:
    return torch.pdist(x).square().mul(-t).exp().mean().log()


def clip(x: Tensor, y: Tensor, scale: float, keep_bytes: int = ALL) -> Tensor:
    rows, columns = log_partitions(x, y, scale, mask=PairMask(positives=OWN), keep_bytes=keep_bytes)
    return ((rows + columns) / 2 - scale * (x * y).sum(dim=1)).mean()


@keeping
@pytest.mark.parametrize("scale", [3.0, 30.0, 300.0])
def test_autocast_leaves_values_alone_and_rounds_gradients(
    keep_bytes: int, scale: float, tile: int, no_dense_way: None
):
    x, y = pairs(3.0)

    def ours(x: Tensor, y: Tensor) -> Tensor:
        return weighted(
            [*log_partitions(x, y, scale, keep_bytes=keep_bytes), self_log_partition(x, scale, keep_bytes=keep_bytes)]
        )

    def theirs(x: Tensor, y: Tensor) -> Tensor:
        s = torch.tensor(scale, dtype=torch.float64)
        return weighted([*dense_log_partitions(x, y, s), dense_log_partitions(x, x, s, PairMask(skip=OWN))[0]])

    plain = ours(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x, y).equal(plain)
        rounded = gradients(ours, x, y)
    exact = gradients(theirs, x, y, dtype=torch.float64)
    # bfloat16 has eight bits, so each number is off by at most 0.4 %, at random.
    assert 1e-5 < relative_error(rounded, exact) < 4e-3
    assert relative_error(gradients(ours, x, y), exact) < 1e-4


@keeping
@pytest.mark.parametrize("scale", [10.0, 30.0, 100.0])
@pytest.mark.parametrize("noise", [3.0, 1.0, 0.5])
def test_autocast_spares_the_gradients_of_a_confident_clip(keep_bytes: int, scale: float, noise: float, tile: int):
    # Near the end of training a positive's softmax is one less a little, and that little is the gradient. Rounding the
    # softmax would drown it.
    x, y = pairs(noise)
    exact = gradients(lambda x, y: dense_clip(x, y, scale), x, y, dtype=torch.float64)
    single = relative_error(gradients(lambda x, y: clip(x, y, scale, keep_bytes), x, y), exact)
    with torch.autocast("cpu", torch.bfloat16):
        ours = relative_error(gradients(lambda x, y: clip(x, y, scale, keep_bytes), x, y), exact)
        dense = relative_error(gradients(lambda x, y: dense_clip(x, y, scale), x, y), exact)
    # Where all is learned, single precision has hardly a gradient itself.
    assert ours < 4e-3 + 2 * single
    assert ours < dense / 2 + 2 * single


def test_info_nce_tells_its_positives():
    x, y = pairs(1.0)
    exact = gradients(lambda x, y: F.cross_entropy(30 * x @ y.T, OWN), x, y, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(lambda x, y: info_nce(x, y, OWN, 30.0).mean(), x, y)
    assert relative_error(ours, exact) < 4e-3


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (30.0, -16.0), (100.0, -50.0)])
@pytest.mark.parametrize("noise", [3.0, 1.0, 0.1])
def test_autocast_rounds_gradients_of_the_sigmoid_loss_less_than_dense_code(
    scale: float, bias: float, noise: float, tile: int
):
    x, y = pairs(noise)
    exact = gradients(lambda x, y: dense_siglip(x, y, scale, bias), x, y, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert sigmoid_loss(x, y, OWN, scale, bias).item() == pytest.approx(
            dense_siglip(x.double(), y.double(), scale, bias).item(), rel=1e-6, abs=1e-7 * scale
        )
        ours = relative_error(gradients(lambda x, y: sigmoid_loss(x, y, OWN, scale, bias), x, y), exact)
        dense = relative_error(gradients(lambda x, y: dense_siglip(x, y, scale, bias), x, y), exact)
    assert ours < 4e-3
    assert ours < dense


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("t", [2.0, 10.0])
def test_autocast_rounds_gradients_of_uniformity(noise: float, t: float, tile: int):
    # Around one point the rows are all but equal; deviations from their mean are what is rounded.
    x = cloud(noise=noise)
    exact = gradients(lambda x: dense_uniformity(x, t), x, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = gradients(lambda x: uniformity(x, t=t, normalize=False), x)
    assert 1e-6 < relative_error(rounded, exact) < 4e-3


@pytest.mark.parametrize("scale", [30.0, 300.0])
def test_autocast_around_the_backward_pass_alone_changes_nothing(scale: float, small_tiles: int):
    x, y = (z.requires_grad_() for z in pairs(1.0))
    value = clip(x, y, scale, SOME) + uniformity(x, normalize=False) + sigmoid_loss(x, y, OWN, scale, -3.0)
    expected = torch.autograd.grad(value, (x, y), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        actual = torch.autograd.grad(value, (x, y))
    assert all(ours.equal(theirs) for ours, theirs in zip(actual, expected, strict=True))


def test_autocast_to_float16_does_not_round(no_dense_way: None):
    # Its range is too small for products of exponentials.
    x, y = pairs(1.0)
    expected = gradients(lambda x, y: clip(x, y, 30.0), x, y)
    with torch.autocast("cpu", torch.float16):
        actual = gradients(lambda x, y: clip(x, y, 30.0), x, y)
    # The logits of positives, which are the caller's own products, are not at stake: a sum of products is no matmul.
    assert all(ours.equal(theirs) for ours, theirs in zip(actual, expected, strict=True))
