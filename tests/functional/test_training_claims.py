"""What papers say that training does to a cloud, in seconds: the toys of papers.md sections 2.5 and 3.3."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_contrastive.functional import (
    centroid_norm,
    condition_number,
    gaussianity,
    info_nce,
    norm_variation,
    participation_ratio,
    spectrum,
)


def gaussianized(steps: int) -> tuple[Tensor, Tensor]:
    """Embeddings of a mixture of ten Gaussians before and after training a perceptron on noisy views."""
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(10, 16, generator=generator)

    def draw(n: int) -> Tensor:
        return means[torch.randint(10, (n,), generator=generator)] + torch.randn(n, 16, generator=generator)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 32))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    held_out = draw(2000)
    before = net(held_out).detach()
    for _ in range(steps):
        x = draw(256)
        views = [F.normalize(net(x + 0.3 * torch.randn(x.shape, generator=generator)), dim=1) for _ in range(2)]
        loss = info_nce(*views, torch.arange(256), 10.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, net(held_out).detach()


def test_info_nce_makes_clusters_gaussian():
    before, after = gaussianized(200)
    raw, trained = (gaussianity(x, num_rows=2000, normalize=False) for x in (before, after))
    assert raw.anderson_darling > 8
    assert raw.anderson_darling_share < 0.1
    assert trained.anderson_darling < 0.8
    assert trained.anderson_darling_share > 0.7
    assert trained.dagostino_pearson_share > 0.5
    assert norm_variation(after).variation < norm_variation(before).variation
    assert centroid_norm(after).norm < 0.2 < 0.5 < centroid_norm(before).norm
    ranks = [participation_ratio(spectrum(x, normalize=False)).item() for x in (before, after)]
    assert ranks[0] < 10
    assert ranks[1] > 28


def condition_numbers(temperature: float | None, iterations: list[int]) -> list[float]:
    """Of the map from signal to embedding, whose deviations go from 1 to 0.5, at some iterations of gradient descent.

    Without a temperature the loss is alignment alone, with one it is CLIP's.
    """
    generator = torch.Generator().manual_seed(0)
    d, signals, batch = 40, 8, 256
    bases = [torch.linalg.qr(torch.randn(d, d, generator=generator)).Q for _ in range(2)]
    deviations = torch.linspace(1, 0.5, signals)
    weights = [(torch.randn(d, 64, generator=generator) / math.sqrt(d)).requires_grad_() for _ in range(2)]
    found = []
    for iteration in range(max(iterations) + 1):
        if iteration in iterations:
            signal_map = weights[0].detach().T @ bases[0][:, :signals] * deviations
            found.append(condition_number(torch.linalg.svdvals(signal_map).square()).sqrt().item())
        signal = deviations * (2.0 * torch.randint(2, (batch, signals), generator=generator) - 1)
        embeds = []
        for weight, basis in zip(weights, bases, strict=True):
            noise = 0.3 * torch.randn(batch, d - signals, generator=generator)
            outputs = torch.cat([signal, noise], dim=1) @ basis.T @ weight
            embeds.append(outputs / outputs.square().sum(dim=1).mean().sqrt())
        if temperature is None:
            loss = -(embeds[0] * embeds[1]).sum(dim=1).mean()
        else:
            logits = embeds[0] @ embeds[1].T / temperature
            both = [F.cross_entropy(scores, torch.arange(batch)) for scores in (logits, logits.T)]
            loss = temperature * torch.stack(both).mean()
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.5 * slope
    return found


def test_positives_alone_worsen_the_condition_number():
    start, end = condition_numbers(None, [0, 300])
    assert end >= 1.5 * start


def test_negatives_balance_the_spectrum_after_alignment_has_worsened_it():
    start, aligned, later = condition_numbers(0.5, [0, 100, 300])
    assert aligned > 1.2 * start
    assert later < 0.85 * aligned


def test_at_a_low_temperature_negatives_balance_the_spectrum_soon():
    """At a temperature of 0.5 it takes 1,500 iterations to the same 1.2."""
    start, end = condition_numbers(0.2, [0, 600])
    assert start > 2
    assert end <= 1.2
