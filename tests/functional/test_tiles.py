"""How the reductions go over tiles: which there are, which are kept, and how much memory that takes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_contrastive.functional import (
    PairMask,
    log_partition,
    log_partitions,
    partition,
    self_log_partition,
    sigmoid_loss,
    uniformity,
)
from hf_contrastive.functional.log_sums import is_bounded, log_sums
from hf_contrastive.functional.tiles import Kept, Plan, blocks
from tests.functional.rows import unit_rows


@pytest.mark.parametrize(("n", "size"), [(0, 4), (1, 4), (4, 4), (7, 4), (9, 1)])
def test_blocks_cover_every_row_once(n: int, size: int):
    covered = [row for block in blocks(n, size) for row in range(block.start, block.stop)]
    assert covered == list(range(n))
    assert all(block.stop - block.start <= size for block in blocks(n, size))


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("symmetric", [False, True])
def test_tiles_cover_every_pair_once_or_half_of_them(size: int, symmetric: bool):
    count = torch.zeros(7, 7, dtype=torch.int)
    x = unit_rows(7, 3)
    for rows, columns in Plan(tile=size, symmetric=symmetric).tiles(x, x):
        count[rows, columns] += 1
        if symmetric and rows != columns:
            count[columns, rows] += 1
    assert count.eq(1).all()


def test_the_size_of_tiles_has_one_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 5)
    x = unit_rows(11, 3)
    assert [rows.stop - rows.start for rows, columns in Plan().tiles(x, x) if columns.start == 0] == [5, 5, 1]


@pytest.mark.parametrize(("dtype", "last"), [(torch.float32, 60), (torch.float64, 520)])
def test_exponentials_are_used_where_they_leave_room_for_gradients(dtype: torch.dtype, last: int):
    x, y = unit_rows(100, 4).to(dtype), unit_rows(50, 4, seed=1).to(dtype)
    bounded = [scale for scale in range(0, 1000, 10) if is_bounded(x, y, torch.tensor(float(scale)))]
    assert bounded == list(range(0, last + 1, 10))
    assert is_bounded(x, y, torch.tensor(-float(last)))
    # Three quarters of the exponents; a sum of 100 terms takes another 4.6.
    for sign in (1, -1):
        largest = torch.tensor(sign * float(last), dtype=dtype).exp() * 100**sign
        for upstream in (1e-9, 1e9):
            product = largest * upstream
            assert torch.finfo(dtype).tiny < product < torch.finfo(dtype).max
    assert not is_bounded(10 * x, y, torch.tensor(float(last)))
    assert not is_bounded(x, 10 * y, torch.tensor(float(last)))
    assert not is_bounded(x * torch.nan, y, torch.tensor(1.0))


# ---- What is kept ----


def kept_of(keep_bytes: int, scale: float = 3.0, **options: Any) -> Kept:
    kept, x, y = Kept(), unit_rows(7, 4).float(), unit_rows(9, 4, seed=1).float()
    log_sums(x, y, torch.tensor(scale), Plan(tile=4, keep_bytes=keep_bytes, **options), kept)
    return kept


@pytest.mark.parametrize("scale", [3.0, 3000.0], ids=["bounded", "unbounded"])
@pytest.mark.parametrize("keep_bytes", [0, 3, 16, 100, 160, 10**6])
def test_no_more_is_kept_than_allowed(scale: float, keep_bytes: int):
    kept = kept_of(keep_bytes, scale)
    size = sum(tile.untyped_storage().nbytes() for tile in kept.tiles.values())
    assert size <= keep_bytes
    assert kept.bounded == (scale == 3.0)
    # 7 x 9 logits of 4 bytes; a cut tile may fit where a whole one does not.
    assert (size == 7 * 9 * 4) == (keep_bytes == 10**6)
    assert bool(kept.tiles) == (keep_bytes >= 16)


def test_exponentials_are_kept_in_half_precision_but_for_tiles_with_positives():
    whole, half = kept_of(10**6), kept_of(10**6, half_gradients=True)
    assert {tile.dtype for tile in whole.tiles.values()} == {torch.float32}
    assert {tile.dtype for tile in half.tiles.values()} == {torch.bfloat16}
    told = kept_of(10**6, half_gradients=True, mask=PairMask(positives=torch.arange(7)))
    exact = {place for place, tile in told.tiles.items() if tile.dtype == torch.float32}
    assert exact == {(0, 0), (4, 4)}
    # Logits, which exceed its precision, are not.
    unbounded = kept_of(10**6, 3000.0, half_gradients=True)
    assert {tile.dtype for tile in unbounded.tiles.values()} == {torch.float32}


def test_tiles_are_kept_only_where_a_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch, no_dense_way: None):
    seen = []

    def spy(*args: Any) -> tuple[Tensor, Tensor]:
        seen.append(args[-1])
        return log_sums(*args)

    monkeypatch.setattr(partition, "log_sums", spy)
    x, y = unit_rows(5, 3).requires_grad_(), unit_rows(4, 3)
    log_partition(x, y, 3.0)
    assert len(seen.pop().tiles) == 1
    log_partition(x.detach(), y, 3.0)
    with torch.no_grad():
        log_partition(x, y, 3.0)
    assert seen == [None, None]


# ---- Memory ----


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest storage that any operation returns, in single-precision numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for z in tree_leaves(out):
            if isinstance(z, Tensor):
                self.largest = max(self.largest, z.untyped_storage().nbytes() // 4)
        return out


N, WIDTH = 4096, 64
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "CLIP": lambda x, y: torch.cat(log_partitions(x, y, 10.0, keep_bytes=0)).mean() - (x * y).sum(dim=1).mean(),
    "CLIP, large scale": lambda x, y: torch.cat(log_partitions(x, y, 100.0, keep_bytes=0)).mean(),
    "CLIP, masked": lambda x, y: log_partition(
        x,
        y,
        10.0,
        mask=PairMask(
            keys=torch.arange(N) % 5 != 0,
            skip=torch.arange(N),
            query_ids=torch.arange(N) // 2,
            key_ids=torch.arange(N) // 2,
            ceiling=torch.full((N,), 0.3),
            positives=torch.arange(N),
        ),
        keep_bytes=0,
    ).mean(),
    "uniformity within": lambda x, y: self_log_partition(x, 10.0, keep_bytes=0).mean(),
    "SigLIP": lambda x, y: sigmoid_loss(x, y, torch.arange(N), 10.0, -10.0),
    "uniformity": lambda x, y: uniformity(x, normalize=False),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("half", [False, True], ids=["single", "autocast"])
def test_no_tensor_is_larger_than_two_tiles_or_the_rows(loss: Callable[[Tensor, Tensor], Tensor], half: bool):
    # 256 x 256 pairs a tile: two of them are half as large as the rows, and the logits would be 64 times as large.
    x, y = (unit_rows(N, WIDTH, seed).float().requires_grad_() for seed in (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_contrastive.functional.tiles.TILE", 256)
        with LargestTensor() as memory, torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss(x, y).backward()
    assert x.grad.ne(0).any()
    assert memory.largest <= max(2 * 256**2, N * WIDTH)


def test_the_measure_of_memory_sees_a_matrix_of_logits():
    x = unit_rows(N // 4, WIDTH).float()
    with LargestTensor() as memory:
        (x @ x.T).logsumexp(dim=1)
    assert memory.largest == (N // 4) ** 2


def test_what_is_kept_is_all_that_keeping_adds():
    x = unit_rows(500, WIDTH).float().requires_grad_()
    with LargestTensor() as memory:
        log_partition(x, x, 10.0).sum().backward()
    assert memory.largest == 500**2
