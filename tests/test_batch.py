from typing import Any

import pytest
import torch
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_rows
from hf_contrastive.testing import batch_of, random_output


THREE = ("text", "audio", "image")


def part(rank: int, present: dict[str, Tensor], **fields: Any) -> ContrastiveBatch:
    """What one of two processes with four rows each sees."""
    output = random_output()
    local = {m: x[4 * rank : 4 * rank + 4] for m, x in output.embeds.items()}
    return ContrastiveBatch(
        local=local,
        world=dict(output.embeds),
        present=present,
        logit_scale=output.logit_scale,
        rank=rank,
        gather=gather_rows,
        **fields,
    )


def present_except(missing: dict[str, list[int]]) -> dict[str, Tensor]:
    present = {m: torch.ones(8, dtype=torch.bool) for m in ("image", "text")}
    for m, rows in missing.items():
        present[m][rows] = False
    return present


def test_a_whole_batch_is_its_own_world():
    output = random_output(modalities=THREE)
    batch = batch_of(output)
    assert batch.local is batch.world
    assert batch.rank == 0
    assert all(batch.present[m].all() for m in THREE)
    torch.testing.assert_close(dict(batch.world), dict(output.embeds), rtol=0, atol=0)


def test_absent_rows_become_zeros_that_get_no_gradient():
    output, present = random_output(), present_except({"text": [0, 5]})
    text = output.embeds["text"].detach().clone()
    text[[0, 5]] = float("nan")
    batch = batch_of(output._replace(embeds=output.embeds | {"text": text.requires_grad_()}), present)
    assert batch.world["text"][[0, 5]].eq(0).all()
    gradient = torch.autograd.grad(batch.world["text"].square().sum(), text)[0]
    assert gradient[[0, 5]].eq(0).all()
    torch.testing.assert_close(gradient[1:5], 2 * text[1:5].detach())


def test_modalities_and_pairs_come_in_alphabetical_order():
    batch = batch_of(random_output(modalities=THREE))
    assert batch.modalities == ["audio", "image", "text"]
    assert batch.pairs() == [("audio", "image"), ("audio", "text"), ("image", "text")]


def test_pairs_of_an_anchor_start_there():
    assert batch_of(random_output(modalities=THREE)).pairs("image") == [("image", "audio"), ("image", "text")]


def test_an_anchor_that_is_no_modality_is_refused():
    with pytest.raises(
        ValueError, match=r"^`anchor` must be one of the modalities \['image', 'text'\], but got 'x'\.$"
    ):
        batch_of(random_output()).pairs("x")


@pytest.mark.parametrize("rank", [0, 1])
def test_positives_are_the_worlds_rows_of_this_process(rank: int):
    batch = part(rank, present_except({}))
    assert batch.positives.tolist() == [4 * rank + i for i in range(4)]
    for m in batch.modalities:
        torch.testing.assert_close(batch.world[m][batch.positives], batch.local[m], rtol=0, atol=0)


def test_rows_are_complete_that_have_all_the_modalities_asked_for():
    batch = part(0, present_except({"text": [0, 5], "image": [5, 7]}))
    assert batch.complete("text").nonzero().flatten().tolist() == [1, 2, 3, 4, 6, 7]
    assert batch.complete("image", "text").nonzero().flatten().tolist() == [1, 2, 3, 4, 6]


@pytest.mark.parametrize("missing", [[], [0], [0, 1, 2, 3], [0, 5, 6]])
def test_the_mean_of_the_shares_is_the_worlds_mean(missing: list[int]):
    values = torch.arange(1.0, 9.0, dtype=torch.float64)
    present = present_except({"text": missing})
    shares = [part(rank, present).mean(values[4 * rank : 4 * rank + 4], "image", "text") for rank in (0, 1)]
    expected = values[present["text"]].mean()
    torch.testing.assert_close(sum(shares) / 2, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(batch_of(random_output(), present).mean(values, "image", "text"), expected)


def test_the_mean_over_no_rows_is_zero_with_zero_gradient():
    values = torch.full((8,), -1e300, dtype=torch.float64, requires_grad=True)
    mean = batch_of(random_output(), present_except({"text": list(range(8))})).mean(values, "image", "text")
    assert mean.item() == 0
    assert torch.autograd.grad(mean, values)[0].eq(0).all()


def test_values_of_incomplete_rows_do_not_matter():
    values = torch.ones(8, dtype=torch.float64)
    values[[0, 5]] = float("nan")
    assert batch_of(random_output(), present_except({"text": [0, 5]})).mean(values, "image", "text").item() == 1


@pytest.mark.parametrize("missing", [[], [0], [0, 5, 6], list(range(8))])
def test_weights_are_exact_shares_of_the_complete_rows(missing: list[int]):
    present = present_except({"text": missing})
    complete = 8 - len(missing)
    for first in (0, 4):
        expected = [0.0 if i in missing else 2 / complete for i in range(first, first + 4)]
        weights = part(first // 4, present).weights("image", "text")
        assert weights.dtype == torch.float64
        assert weights.tolist() == pytest.approx(expected, abs=1e-16)
    alone = batch_of(random_output(), present).weights("image", "text")
    assert alone.sum().item() == pytest.approx(1 if complete else 0, abs=1e-15)
