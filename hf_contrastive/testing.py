"""Checks that every loss must pass, for our tests and for those of plugins."""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.distributed import gather_batch
from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.losses import ContrastiveLoss, total
from hf_contrastive.pair_scales import pair_names


NUM_ROWS = 8


def random_output(
    num_rows: int = NUM_ROWS,
    width: int = 5,
    modalities: Sequence[str] = ("image", "text"),
    seed: int = 0,
    *,
    pair_scales: bool = False,
) -> EncoderOutput:
    """Unit embeddings in double precision, the same at every call with one seed, that record gradients.

    With `pair_scales`, each pair of modalities has a scale and a bias of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    embeds = {
        m: F.normalize(torch.randn(num_rows, width, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
        for m in modalities
    }
    scale, bias = (torch.tensor(value, dtype=torch.float64) for value in (7.0, -2.0))
    if pair_scales:
        factors = torch.linspace(0.5, 1.5, len(pair_names(modalities)), dtype=torch.float64)
        scale, bias = scale * factors, bias * factors
    return EncoderOutput(embeds, scale.requires_grad_(), bias.requires_grad_())


def batch_of(
    output: EncoderOutput, present: dict[str, Tensor] | None = None, *, progress: float = 1.0
) -> ContrastiveBatch:
    """The batch of a run with a single process, even inside a process group."""
    batch = ContrastiveBatch.whole(output.embeds, output.logit_scale, output.logit_bias, present)
    return replace(batch, progress=progress)


def check_loss(
    loss: ContrastiveLoss,
    num_processes: int | Sequence[int] = (1, 2, 4),
    *,
    tolerance: float = 1e-9,
    pair_scales: bool = False,
) -> None:
    """Assert that `loss` means the same on several processes as on one, in value and in every gradient.

    Real gloo processes share 8 rows in double precision, of two and of three modalities, with all rows present and with
    rows missing unevenly. The mean over processes of value and gradients (of embeddings, scale and bias) must be that
    of one process with all rows.

    Args:
        loss: The loss, an instance that can be pickled.
        num_processes: Numbers of processes to try, each a divisor of 8.
        tolerance: Largest absolute difference.
        pair_scales: Whether each pair of modalities has a scale and a bias of its own.

    Raises:
        AssertionError: A value or gradient differs; the message says which, and for how many processes.
    """
    for processes in [num_processes] if isinstance(num_processes, int) else num_processes:
        run_distributed(_check_in_group, [loss], tolerance, pair_scales, num_processes=processes)


def check_losses(
    losses: Sequence[ContrastiveLoss], num_processes: int, *, tolerance: float = 1e-9, pair_scales: bool = False
) -> None:
    """[`check_loss`] for several losses in one group of processes, whose start takes seconds."""
    run_distributed(_check_in_group, list(losses), tolerance, pair_scales, num_processes=num_processes)


def run_distributed(fn: Callable[..., None], *args: object, num_processes: int = 2) -> None:
    """Run `fn(*args)` in new processes joined by gloo, as `torchrun` would. An exception in any of them is raised here."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    spawn(_in_group, args=(num_processes, port, fn, args), nprocs=num_processes)  # type: ignore[no-untyped-call]


def _in_group(rank: int, num_processes: int, port: int, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "MASTER_ADDR": "localhost"}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        assert dist.get_world_size() == num_processes
        fn(*args)
    finally:
        dist.destroy_process_group()
    # Threads of gloo outlive the group and at times abort the interpreter while it shuts down (torch 2.13). All is done
    # here, so leave without that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _check_in_group(losses: list[ContrastiveLoss], tolerance: float, pair_scales: bool) -> None:
    for loss in losses:
        for modalities in (("image", "text"), ("audio", "image", "text")):
            for absent in ([], [0, 5, 6]):
                _check_one(loss, modalities, absent, tolerance, pair_scales)


def _check_one(
    loss: ContrastiveLoss, modalities: Sequence[str], absent: list[int], tolerance: float, pair_scales: bool
) -> None:
    whole, part = (random_output(modalities=modalities, pair_scales=pair_scales) for _ in range(2))
    present = {m: torch.ones(NUM_ROWS, dtype=torch.bool) for m in modalities}
    present["text"][absent] = False
    rows = NUM_ROWS // dist.get_world_size()
    mine = slice(dist.get_rank() * rows, (dist.get_rank() + 1) * rows)

    expected = total(loss(batch_of(whole, present)))
    share = total(
        loss(
            gather_batch(
                part._replace(embeds={m: x[mine] for m, x in part.embeds.items()}),
                {m: x[mine] for m, x in present.items()},
            )
        )
    )
    expected.backward()  # type: ignore[no-untyped-call]
    share.backward()  # type: ignore[no-untyped-call]

    # DDP averages the gradients of parameters; each row's gradient is nonzero on one process only.
    pairs = [("value", _mean(share), expected.detach())]
    pairs += [(f"gradient of {m}", _mean(_grad(part.embeds[m])), _grad(whole.embeds[m])) for m in modalities]
    pairs += [("gradient of logit_scale", _mean(_grad(part.logit_scale)), _grad(whole.logit_scale))]
    if part.logit_bias is not None and whole.logit_bias is not None:
        pairs += [("gradient of logit_bias", _mean(_grad(part.logit_bias)), _grad(whole.logit_bias))]
    for what, actual, wanted in pairs:
        difference = (actual - wanted).abs().max().item()
        # Written so that NaN fails.
        assert difference <= tolerance, (
            f"{loss} on {dist.get_world_size()} processes, {modalities}, rows {absent} without text: the {what} differs "
            f"by {difference:.3g} from one process, more than {tolerance:.3g}."
        )


def _grad(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad


def _mean(x: Tensor) -> Tensor:
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()
