"""The functional core on the GPU: tiles of the size it uses there, kept or not, and measures."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.functional import (
    PairMask,
    effective_rank,
    gaussian_kl,
    linear_probe,
    linear_separability,
    log_partition,
    mean_info_nce,
    modality_gap,
    neighbor_scores,
    one_row_per_id,
    paired_log_partitions,
    retrieval_relevance,
    self_log_partition,
    sigmoid_loss,
    spearman,
    spectrum,
    uniformity,
)
from hf_contrastive.functional.tiles import ACCELERATOR_TILE, TILE


WIDTH = 64
# One block in single precision is kept at 5e6 bytes on a CPU, at 2e7 on an accelerator.
KEEP = [0, 20_000_000, 2**28]
Reduction = Callable[..., Tensor]


def rows_of(device: torch.device) -> int:
    """More than one tile, and not a whole number of them."""
    return (ACCELERATOR_TILE if device.type == "cuda" else TILE) * 3 // 2


def pairs(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, rows, WIDTH, generator=generator, dtype=torch.float64)
    return F.normalize(x, dim=1), F.normalize(x + 2 * noise, dim=1)


def on(device: torch.device, mask: PairMask) -> PairMask:
    given = ("queries", "keys", "skip", "query_ids", "key_ids", "ceiling", "positives")
    return PairMask(**{n: None if (x := getattr(mask, n)) is None else x.to(device) for n in given})


def masks(rows: int) -> dict[str, PairMask]:
    generator = torch.Generator().manual_seed(1)
    own, ids = torch.arange(rows), torch.randint(rows // 4, (rows,), generator=generator)
    return {
        "none": PairMask(),
        "positives": PairMask(positives=own),
        "shuffled positives": PairMask(positives=torch.randperm(rows, generator=generator)),
        "skip": PairMask(skip=own),
        "ids": PairMask(query_ids=ids, key_ids=ids, positives=own),
        "keys": PairMask(keys=torch.rand(rows, generator=generator) > 0.3),
    }


def clip(x: Tensor, y: Tensor, scale: Tensor, mask: PairMask, **options: int) -> Tensor:
    rows, columns, paired = paired_log_partitions(x, y, scale, mask=mask, **options)
    return mean(rows, columns, paired, mask)


def mean(rows: Tensor, columns: Tensor, paired: Tensor, mask: PairMask) -> Tensor:
    if mask.keys is not None:
        # The sum over queries of a key that takes no part is over nothing.
        columns = torch.where(mask.keys, columns, 0.0)
    return ((rows + columns) / 2 - paired).mean()


def dense_clip(x: Tensor, y: Tensor, scale: Tensor, mask: PairMask) -> Tensor:
    logits = scale * x @ y.T
    everything = slice(0, len(x))
    left_out = torch.zeros_like(logits).detach()
    mask.fill_(left_out, everything, everything, scale.detach())
    logits = logits + left_out
    columns = logits if mask.keys is None else torch.where(mask.keys, logits, 0.0)
    return mean(logits.logsumexp(1), columns.logsumexp(0), scale * (x * y).sum(1), mask)


def one_way(x: Tensor, y: Tensor, scale: Tensor, mask: PairMask, **options: int) -> Tensor:
    return log_partition(x, y, scale, mask=mask, **options).mean()


def itself(x: Tensor, _: Tensor, scale: Tensor, mask: PairMask, **options: int) -> Tensor:
    return self_log_partition(x, scale, **options).mean()


def with_gradients(way: Reduction, device: torch.device, dtype: torch.dtype, *args: object, **options: int):
    leaves = [z.to(device, dtype).requires_grad_() for z in (*pairs(rows_of(device)), torch.tensor(30.0))]
    value = way(*leaves, *args, **options)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return value.detach().double().cpu(), [g.double().cpu() for g in gradients]


def assert_near(actual, expected, of_value: float, of_gradient: float) -> None:
    assert (actual[0] - expected[0]).abs() <= of_value * expected[0].abs().clamp(min=1)
    size = torch.stack([g.norm() for g in expected[1][:2]]).norm()
    for gradient, exact in zip(actual[1][:2], expected[1][:2], strict=True):
        assert (gradient - exact).norm() <= of_gradient * size
    # Of the scale.
    assert (actual[1][2] - expected[1][2]).abs() <= 10 * of_gradient * expected[1][2].abs().clamp(min=1e-2)


@pytest.mark.parametrize("keep_bytes", KEEP)
@pytest.mark.parametrize("name", ["none", "positives", "shuffled positives", "skip", "ids", "keys"])
def test_tiles_kept_or_not_are_all_logits_at_once(device: torch.device, name: str, keep_bytes: int):
    size = rows_of(device)
    mask = masks(size)[name]
    expected = with_gradients(dense_clip, device, torch.float64, on(device, mask))
    actual = with_gradients(clip, device, torch.float32, on(device, mask), keep_bytes=keep_bytes)
    assert_near(actual, expected, 1e-5, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("keep_bytes", KEEP)
@pytest.mark.parametrize("way", [clip, one_way, itself])
def test_autocast_rounds_gradients_alone(device: torch.device, way: Reduction, keep_bytes: int, dtype: torch.dtype):
    mask = on(device, masks(rows_of(device))["positives"])
    expected = with_gradients(way, device, torch.float64, mask)
    with torch.autocast(device.type, dtype):
        actual = with_gradients(way, device, torch.float32, mask, keep_bytes=keep_bytes)
    assert_near(actual, expected, 1e-5, 1e-2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("way", ["sigmoid", "uniformity", "gaussian_kl"])
@pytest.mark.parametrize("autocast", [False, True])
def test_losses_without_partitions_are_those_of_the_cpu(device: torch.device, way: str, autocast: bool):
    def loss(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        if way == "sigmoid":
            return sigmoid_loss(x, y, torch.arange(len(x), device=x.device), scale, -10.0)
        if way == "uniformity":
            return uniformity(x, normalize=False) + 0 * scale
        return gaussian_kl(x) + 0 * scale

    expected = with_gradients(loss, device, torch.float64)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        actual = with_gradients(loss, device, torch.float32)
    # The backward pass runs inside of the autocast region here, where that of a Cholesky factor multiplies in bfloat16.
    assert_near(actual, expected, 1e-5, 3e-2 if autocast else 1e-4)


@pytest.mark.parametrize("keep_bytes", [0, 2**28])
def test_mean_info_nce_is_the_mean_with_and_without_linear_cross_entropy(device: torch.device, keep_bytes: int):
    def loss(x: Tensor, y: Tensor, scale: Tensor, keep_bytes: int = keep_bytes) -> Tensor:
        return mean_info_nce(x, y, torch.arange(len(x), device=x.device), scale, keep_bytes=keep_bytes)

    expected = with_gradients(loss, device, torch.float64, keep_bytes=2**40)
    assert_near(with_gradients(loss, device, torch.float32), expected, 1e-5, 1e-4)


def test_reads_of_the_device_do_not_grow_with_the_tiles(cuda: torch.device):
    counts = []
    for rows in (3 * ACCELERATOR_TILE, 6 * ACCELERATOR_TILE):
        x, y = (z.to(cuda, torch.float32).requires_grad_() for z in pairs(rows))
        mask, scale = PairMask(positives=torch.arange(rows, device=cuda)), torch.tensor(20.0, device=cuda)
        counts.append(synchronizations(lambda: clip(x, y, scale, mask, keep_bytes=0).backward()))  # noqa: B023
    # With 9 and 36 tiles: one read to choose the way, none for a tile.
    assert counts[0] == counts[1] <= 2


def synchronizations(run: Callable[[], object]) -> int:
    """How often the CPU waits for the device."""
    run()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing CUDA operation" in str(w.message) for w in seen)


def test_measures_are_those_of_the_cpu(device: torch.device):
    x, y = (z.float() for z in pairs(700))
    labels = torch.arange(700) % 7
    ids = torch.arange(700) // 2

    def measures(on: torch.device) -> dict[str, Tensor]:
        a, b, classes, items = x.to(on), y.to(on), labels.to(on), ids.to(on)
        ranks, relevance = retrieval_relevance(a, b, query_ids=items, key_ids=items)
        found = {
            "better": ranks.better,
            "recall": ranks.recall(5),
            "median": ranks.median(),
            "mrr": ranks.mean_reciprocal(),
            "precision": relevance.average_precision,
            "gain": relevance.gain,
            "separability": linear_separability(a, b),
            "spectrum": spectrum(a),
            "rank": effective_rank(a),
            "gap": modality_gap(a, b).gap,
            "uniformity": uniformity(a),
            "neighbors": neighbor_scores(a, classes, b, num_classes=7),
            "probe": linear_probe(a, classes, b, num_classes=7),
            "spearman": spearman(a[:, 0], b[:, 0]),
            "chosen": one_row_per_id(torch.cat([a, a]), torch.cat([items, items])),
        }
        return {name: value.cpu() for name, value in found.items()}

    expected = measures(torch.device("cpu"))
    for name, value in measures(device).items():
        tolerance = 1e-3 if name == "probe" else 1e-4
        torch.testing.assert_close(
            value, expected[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_dtypes_without_autocast_are_summed_in_single_precision(device: torch.device):
    for dtype in (torch.bfloat16, torch.float16):
        x, y = (z.to(device, dtype) for z in pairs(100))
        scale = torch.tensor(50.0, device=device)
        exact = torch.logsumexp(50 * x.double() @ y.double().T, dim=1)
        torch.testing.assert_close(log_partition(x, y, scale).double(), exact, rtol=1e-5, atol=1e-5)
