"""Sums over the world: which pairs they take, and that processes share them without a change."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_batch, rank
from hf_contrastive.testing import batch_of, random_output, run_distributed
from tests.functional.dense import close, pairs_of
from tests.functional.rows import random_rows
from tests.test_batch import part, present_except


IDS = torch.tensor([0, 1, 0, 3, 4, 1, 6, 0])


def expected_pairs(
    rows: range, missing: list[int], ids: Tensor | None, margin: float | None, without_positives: bool
) -> Tensor:
    """Whether each of the queries `rows` of images meets each text of the world."""
    x, y = (z.detach() for z in random_output().embeds.values())
    table = torch.zeros(len(rows), 8, dtype=torch.bool)
    for place, i in enumerate(rows):
        for j in range(8):
            alike = ids is not None and bool(ids[i] == ids[j])
            near = margin is not None and float(x[i] @ y[j]) > float(x[i] @ y[i]) + margin
            table[place, j] = not without_positives if i == j else not (alike or near)
            table[place, j] &= i not in missing and j not in missing
    return table


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("missing", [[], [0, 5, 6]])
@pytest.mark.parametrize("ids", [None, IDS], ids=["no ids", "ids"])
@pytest.mark.parametrize("margin", [None, 0.1, -0.2])
@pytest.mark.parametrize("without_positives", [False, True])
@pytest.mark.parametrize("false_negatives", [False, True])
def test_a_mask_leaves_out_what_it_should_and_spares_positives(
    rank: int,
    missing: list[int],
    ids: Tensor | None,
    margin: float | None,
    without_positives: bool,
    false_negatives: bool,
):
    batch = part(rank, present_except({"text": missing}), ids=ids, margin=margin)
    mask = batch.mask("image", "text", without_positives=without_positives, false_negatives=false_negatives)
    if false_negatives:
        ids = margin = None
    expected = expected_pairs(range(4 * rank, 4 * rank + 4), missing, ids, margin, without_positives)
    assert pairs_of(mask, batch.local["image"], batch.world["text"]).equal(expected)
    # What ids and margin leave out is counted, and nothing else.
    plain = expected_pairs(range(4 * rank, 4 * rank + 4), missing, None, None, False)
    if not without_positives and not false_negatives:
        assert batch.count_false_negatives("image", "text") == int((plain & ~expected).sum())


def test_a_margin_is_measured_from_each_rows_own_pair():
    batch = replace(batch_of(random_output()), margin=0.1)
    x, y = batch.local["image"], batch.local["text"]
    there, back = batch.mask("image", "text"), batch.mask("text", "image")
    assert there.ceiling.equal(back.ceiling)
    assert not there.ceiling.requires_grad
    # Yet what is too near to an image may not be to a text.
    assert not pairs_of(there, x, y).equal(pairs_of(back, y, x).T)


# ---- Sums ----


def dense_sums(x: Tensor, y: Tensor, scale: Tensor, kept: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """Log sums over the kept pairs, there and back; zero for rows without any."""
    logits = scale * x @ y.T
    sums = []
    for z, pairs in ((logits, kept), (logits.T, back)):
        empty = ~pairs.any(dim=1, keepdim=True)
        sums.append(z.masked_fill(~(pairs | empty), -torch.inf).logsumexp(1).masked_fill(empty[:, 0], 0))
    return sums[0], sums[1]


FALSE_NEGATIVES: dict[str, dict[str, Any]] = {
    "none": {},
    "ids": {"ids": IDS},
    "margin": {"margin": 0.1},
    "ids and margin": {"ids": IDS, "margin": -0.2},
}
SUMS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "without positives": {"without_positives": True},
    "with false negatives": {"false_negatives": True},
    "at another scale": {"scale": 2.5},
    "nothing kept": {"keep_bytes": 0},
}


def objective(batch: ContrastiveBatch, options: dict[str, Any], rows: slice) -> tuple[Tensor, list[Tensor]]:
    """Every sum of the local rows of `batch` and a combination of them in which each of the world's rows has a weight."""
    others = {name: value for name, value in options.items() if name != "without_positives"}
    sums = [
        *batch.log_partitions("image", "text", **options),
        batch.self_log_partition("image", **others),
        batch.self_log_partition("text", "image", **others),
    ]
    sums = [z.masked_fill(z.detach() < -1e30, 0) for z in sums]
    return sum((weights[rows] * z).sum() for weights, z in zip(random_rows(4, 8, 9), sums, strict=True)), sums


def expected_objective(
    batch: ContrastiveBatch, options: dict[str, Any], missing: list[int]
) -> tuple[Tensor, list[Tensor]]:
    x, y, scale = batch.world["image"], batch.world["text"], options.get("scale", batch.logit_scale)
    ids, margin = (None, None) if options.get("false_negatives") else (batch.ids, batch.margin)
    kept = expected_pairs(range(8), missing, ids, margin, options.get("without_positives", False))
    back = expected_pairs(range(8), missing, ids, None, options.get("without_positives", False)).T
    if margin is not None:
        cosines = (x @ y.T).detach()
        near = cosines.diagonal().unsqueeze(1) + margin < cosines.T
        back = back & ~near.fill_diagonal_(False)
    own = [expected_pairs(range(8), lacking, ids, None, True) for lacking in ([], missing)]
    sums = [*dense_sums(x, y, scale, kept, back)]
    sums += [dense_sums(z, z, scale, pairs, pairs)[0] for z, pairs in zip((x, y), own, strict=True)]
    return sum((weights * z).sum() for weights, z in zip(random_rows(4, 8, 9), sums, strict=True)), sums


def check_sums(num_processes: int) -> None:
    for name, fields in FALSE_NEGATIVES.items():
        for kind, options in SUMS.items():
            for missing in ([], [0, 5, 6], list(range(8))):
                try:
                    check_one_sum(num_processes, fields, options, missing)
                except AssertionError as error:
                    raise AssertionError(f"false negatives: {name}, {kind}, missing {missing}: {error}") from error


def check_one_sum(num_processes: int, fields: dict[str, Any], options: dict[str, Any], missing: list[int]) -> None:
    whole, mine, present = random_output(), random_output(), present_except({"text": missing})
    b = 8 // num_processes
    rows = slice(rank() * b, rank() * b + b)
    value, expected = expected_objective(replace(batch_of(whole, present), **fields), options, missing)
    local = {name: z[rows] if isinstance(z, Tensor) else z for name, z in fields.items()}
    batch = gather_batch(
        mine._replace(embeds={m: x[rows] for m, x in mine.embeds.items()}),
        {m: x[rows] for m, x in present.items()},
        **local,
    )
    share, actual = objective(batch, options, rows)
    close(actual, [z[rows] for z in expected], 1e-12)
    leaves = (*mine.embeds.values(), mine.logit_scale)
    ours = torch.autograd.grad(share, leaves, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad(
        value, (*whole.embeds.values(), whole.logit_scale), allow_unused=True, materialize_grads=True
    )
    if num_processes > 1:
        for gradient in ours:
            dist.all_reduce(gradient)
    close(ours, theirs, 1e-10)


def test_sums_leave_out_false_negatives_in_one_process():
    check_sums(1)


@pytest.mark.distributed
def test_sums_of_two_processes_are_those_of_one():
    run_distributed(check_sums, 2, num_processes=2)
