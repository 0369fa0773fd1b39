import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessRaisedException

from hf_contrastive.distributed import all_gather_rows, all_reduce_moments, gather_batch, rank, world_size
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.functional import Moments, PairMoments
from hf_contrastive.testing import random_output, run_distributed


def test_one_process_needs_no_group():
    x = torch.ones(3, 2)
    assert (world_size(), rank()) == (1, 0)
    assert all_gather_rows(x) is x
    moments = Moments(2)
    assert all_reduce_moments(moments) is moments


def test_the_batch_of_one_process_holds_its_rows_in_alphabetical_order():
    output = random_output(modalities=("text", "audio", "image"))
    batch = gather_batch(output)
    assert list(batch.world) == ["audio", "image", "text"]
    for m in batch.modalities:
        torch.testing.assert_close(batch.world[m], output.embeds[m], rtol=0, atol=0)
        torch.testing.assert_close(batch.local[m], output.embeds[m], rtol=0, atol=0)
        assert batch.present[m].all()
    assert batch.logit_scale is output.logit_scale
    assert batch.logit_bias is output.logit_bias
    assert batch.ids is None
    assert batch.gather is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_named(value: float):
    output = random_output()
    output.embeds["text"].data[[3, 6], 1] = value
    with pytest.raises(ValueError, match=r"^`text_embeds` holds rows that are not finite: row 3 is the first of 2\.$"):
        gather_batch(output)


def test_an_absent_row_may_hold_anything():
    output = random_output()
    output.embeds["text"].data[[3, 6]] = float("nan")
    present = {m: torch.ones(8, dtype=torch.bool) for m in output.embeds}
    present["text"][[3, 6]] = False
    batch = gather_batch(output, present)
    assert batch.world["text"][[3, 6]].eq(0).all()
    assert batch.present["text"].equal(present["text"])


def share_of(output: EncoderOutput, rows: int = 4) -> EncoderOutput:
    mine = slice(rank() * rows, (rank() + 1) * rows)
    return output._replace(embeds={m: x[mine] for m, x in output.embeds.items()})


def check_rows_and_gradients() -> None:
    assert (world_size(), rank()) == (2, dist.get_rank())
    everyone = torch.arange(16.0, dtype=torch.float64).view(8, 2)
    # Every second column: a view whose rows do not lie in one piece of memory.
    x = everyone.repeat_interleave(2, dim=1)[4 * rank() : 4 * rank() + 4, ::2].requires_grad_()
    world = all_gather_rows(x)
    assert world.equal(everyone)
    weights = torch.linspace(-1, 1, 16, dtype=torch.float64).view(8, 2) ** 3
    loss = ((rank() + 1) * weights * world.square()).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    # Both processes use every row, with factors 1 and 2; what each sends back is summed.
    mine = slice(4 * rank(), 4 * rank() + 4)
    torch.testing.assert_close(gradient, (1 + 2) * weights[mine] * 2 * x.detach(), rtol=0, atol=1e-12)
    assert all_gather_rows(torch.tensor([True, False]) if rank() else torch.tensor([True, True])).tolist() == [
        True,
        True,
        True,
        False,
    ]


def check_that_a_gradient_may_be_shared_with_others() -> None:
    x = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    world = all_gather_rows(x)
    (world + world).sum().backward()
    assert x.grad.tolist() == [[4.0], [4.0]]


def check_that_uneven_rows_are_refused_everywhere() -> None:
    # Both ranks catch it here: were one of them left waiting, the collective below would not be reached by both.
    with pytest.raises(ValueError, match=r"the same number of rows to a batch, but they bring \[3, 2\]\. Train with"):
        all_gather_rows(torch.ones(3 - rank(), 2))
    with pytest.raises(ValueError, match=r"they bring \[8, 4\]"):
        gather_batch(random_output(num_rows=8 if rank() == 0 else 4))
    hard = [f"hard_negatives__text__{number}" for number in range(1 + rank())]
    with pytest.raises(ValueError, match=r"theirs are \[\[3, 5\], \[4, 5\]\]: .* and as many hard negatives\."):
        gather_batch(random_output(modalities=("image", "text", *hard)))
    dist.barrier()


def check_that_a_nan_on_one_rank_is_refused_everywhere() -> None:
    output = random_output()
    output.embeds["text"].data[6, 1] = float("nan")  # on rank 1 alone
    with pytest.raises(ValueError, match=r"^`text_embeds` holds rows that are not finite: row 6 is the first of 1\.$"):
        gather_batch(share_of(output))
    dist.barrier()


def check_the_batch_of_two_processes() -> None:
    output = random_output()
    present = {m: torch.ones(8, dtype=torch.bool) for m in output.embeds}
    present["text"][[0, 5, 6]] = False
    mine = slice(rank() * 4, rank() * 4 + 4)
    ids = torch.arange(8) // 3
    batch = gather_batch(share_of(output), {m: x[mine] for m, x in present.items()}, ids[mine], margin=0.3)
    assert batch.rank == rank()
    assert batch.ids.equal(ids)
    assert (batch.margin, batch.progress) == (0.3, 1.0)
    assert batch.positives.tolist() == list(range(8))[mine]
    for m, x in output.embeds.items():
        assert batch.present[m].equal(present[m])
        kept = torch.where(present[m].unsqueeze(1), x, 0.0)
        assert batch.world[m].equal(kept)
        assert batch.local[m].equal(kept[mine])


def check_moments() -> None:
    x, y = random_output(num_rows=12).embeds.values()
    mine = slice(0, 9) if rank() == 0 else slice(9, 12)  # uneven
    pairs, whole = PairMoments(5), PairMoments(5)
    pairs.update(x[mine].detach(), y[mine].detach())
    whole.update(x.detach(), y.detach())
    world = all_reduce_moments(pairs)
    assert world.x.count == 12
    assert world.alignment().item() == pytest.approx(whole.alignment().item(), abs=1e-14)
    assert world.modality_gap().gap.item() == pytest.approx(whole.modality_gap().gap.item(), abs=1e-14)
    nothing_here = all_reduce_moments(pairs.x if rank() == 0 else Moments(5))
    assert nothing_here.count == 9
    torch.testing.assert_close(world.x.covariance(), whole.x.covariance(), rtol=0, atol=1e-14)


def check_everything() -> None:
    check_moments()
    check_rows_and_gradients()
    check_that_a_gradient_may_be_shared_with_others()
    check_that_uneven_rows_are_refused_everywhere()
    check_that_a_nan_on_one_rank_is_refused_everywhere()
    check_the_batch_of_two_processes()


@pytest.mark.distributed
@pytest.mark.timeout(60)
def test_two_processes_agree_on_rows_gradients_and_refusals():
    run_distributed(check_everything, num_processes=2)


def bring_uneven_rows() -> None:
    gather_batch(random_output(num_rows=8 if rank() == 0 else 4))


@pytest.mark.distributed
@pytest.mark.timeout(60)
def test_uneven_rows_end_a_run_with_the_message():
    with pytest.raises(ProcessRaisedException, match=r"ValueError: Every process must bring the same number of rows"):
        run_distributed(bring_uneven_rows, num_processes=2)
