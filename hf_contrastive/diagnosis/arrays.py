"""Arrays behind the plots of a diagnosis, the same at every call with one seed."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hf_contrastive.diagnosis.embedding import draw_rows
from hf_contrastive.diagnosis.result import Composition, CosineHistogram, Projection
from hf_contrastive.functional import cloud_distance, pair_distance, subspace_overlap


MAX_POINTS = 1000
NUM_BINS = 80
# Unmatched partners of each row: as many cosines as a histogram needs.
PARTNERS = 20
DIRECTIONS = (1, 4, 16, 64)


def project(embeds: Mapping[str, Float[Tensor, "n d"]], *, seed: int = 0) -> Projection:
    """Unit rows on the first two principal directions of all modalities together.

    Directions have a sign: their largest entry is positive.
    """
    unit = {m: F.normalize(x.double(), dim=1) for m, x in embeds.items()}
    joint = torch.cat(list(unit.values()))
    center = joint.mean(dim=0)
    values, vectors = torch.linalg.eigh((joint - center).mT @ (joint - center))
    directions = vectors[:, -2:].flip(1)
    if directions.shape[1] < 2:
        raise ValueError(f"Two directions need embeddings of two columns or more, but the width is {len(values)}.")
    directions = directions * directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)).sign()
    rows = torch.tensor(draw_rows(len(joint) // len(unit), MAX_POINTS, seed))
    shares = (values.flip(0)[:2].clamp(min=0) / values.sum().clamp(min=torch.finfo(values.dtype).tiny)).tolist()
    return Projection(
        rows=rows,
        points={m: ((x[rows] - center) @ directions).float() for m, x in unit.items()},
        centers={m: ((x.mean(dim=0) - center) @ directions).float() for m, x in unit.items()},
        shares=(shares[0], shares[1]),
    )


def cosine_histogram(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], *, ids: Int[Tensor, "n"] | None = None, seed: int = 0
) -> CosineHistogram:
    """Cosines of matched rows, of rows that show other things, and of matched rows after a permutation."""
    x, y = F.normalize(x.float(), dim=1), F.normalize(y.float(), dim=1)
    n = len(x)
    ids = torch.arange(n) if ids is None else ids
    if len(torch.unique(ids)) < 2:
        raise ValueError(f"Unmatched rows need two different ids or more, but all {n} rows have one.")
    generator = torch.Generator().manual_seed(seed)
    # In a random order, row i with rows i + 1, i + 2, ...: neighbors in a dataset may be alike.
    order = torch.randperm(n, generator=generator)
    unmatched = []
    for shift in range(1, min(n, PARTNERS + 1)):
        partner = order.roll(shift)
        others = ids[order] != ids[partner]
        unmatched.append((x[order][others] * y[partner][others]).sum(dim=1))
    others = torch.zeros(n, dtype=torch.bool)
    while not others.any():
        permutation = torch.randperm(n, generator=generator)
        others = ids != ids[permutation]
    found = {
        "matched": (x * y).sum(dim=1),
        "unmatched": torch.cat(unmatched),
        "permuted": (x * y[permutation]).sum(dim=1)[others],
    }
    edges = torch.linspace(-1, 1, NUM_BINS + 1)
    densities = {name: torch.histogram(z.clamp(-1, 1), edges, density=True).hist for name, z in found.items()}
    return CosineHistogram(
        edges=tuple(edges.tolist()),
        means={name: float(z.mean()) for name, z in found.items()},
        matched=tuple(densities["matched"].tolist()),
        unmatched=tuple(densities["unmatched"].tolist()),
        permuted=tuple(densities["permuted"].tolist()),
    )


def compose(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    names: tuple[str, str],
    halves: tuple[Int[Tensor, "a"], Int[Tensor, "b"]],
) -> Composition:
    """What parts two modalities, with two halves of each modality as the control."""
    matched = pair_distance(x, y)._asdict()
    matched = {part.replace("_x", f"_{names[0]}").replace("_y", f"_{names[1]}"): v for part, v in matched.items()}
    controls = [cloud_distance(z[halves[0]], z[halves[1]])._asdict() for z in (x, y)]
    return Composition(
        matched={part: float(value) for part, value in matched.items()},
        clouds={part: float(value) for part, value in cloud_distance(x, y)._asdict().items()},
        clouds_control={part: float(controls[0][part] + controls[1][part]) / 2 for part in controls[0]},
        subspace_overlap={k: float(subspace_overlap(x, y, k)) for k in DIRECTIONS if k <= min(x.shape[1], len(x) - 1)},
    )
