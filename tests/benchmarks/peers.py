"""Losses of other packages in their own code, those that are installed."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor


Way = Callable[[Tensor, Tensor, Tensor], Tensor]


# lightly imports it beside its losses, which do without; it does not load with every torch.
_TORCHVISION = {f"torchvision{part}": mock.MagicMock() for part in ("", ".ops", ".transforms", ".models", ".io")}


def find_peers() -> dict[str, dict[str, Way]]:
    """Ways by group. Names the packages that are missing."""
    found: dict[str, dict[str, Way]] = {"uniformity": {"align_uniform (pdist)": _align_uniform}}
    for package, add in (
        ("open_clip", _open_clip),
        ("sentence_transformers", _sentence_transformers),
        ("lightly", _lightly),
    ):
        if importlib.util.find_spec(package) is None:
            print(f"Without {package}, which is not installed.")
        else:
            for group, ways in add().items():
                found.setdefault(group, {}).update(ways)
    return found


def _align_uniform(x: Tensor, *_: Tensor) -> Tensor:
    # github.com/ssnl/align_uniform, the paper's own two lines.
    return torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log()


def _module(package: str, file: str) -> Any:
    """One file of a package, without what the package imports: open_clip and lightly want torchvision."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / file
    loaded = importlib.util.spec_from_file_location(f"{package}_{path.stem}", path)
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


def open_clip_loss(*, local_loss: bool) -> Way:
    """open_clip's CLIP loss among all processes, in a setting whose gradient is exact."""
    world = {"rank": dist.get_rank(), "world_size": dist.get_world_size()}
    loss: Way = _module("open_clip", "loss.py").ClipLoss(local_loss=local_loss, gather_with_grad=True, **world)
    return loss


def _open_clip() -> dict[str, dict[str, Way]]:
    module = _module("open_clip", "loss.py")
    loss, sigmoid = module.ClipLoss(), module.SigLipLoss()

    def clip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return loss(x, y, scale)

    def siglip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return sigmoid(x, y, scale, torch.tensor(-10.0, requires_grad=True))

    return {"clip": {"open_clip": clip}, "siglip": {"open_clip": siglip}}


def _sentence_transformers() -> dict[str, dict[str, Way]]:
    from sentence_transformers import losses

    class Passes(torch.nn.Module):
        """A model whose embeddings are its input."""

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return features

    def build(**options: object) -> Way:
        loss = losses.MultipleNegativesRankingLoss(Passes(), scale=20.0, **options)

        def run(x: Tensor, y: Tensor, _: Tensor) -> Tensor:
            return loss([{"sentence_embedding": x}, {"sentence_embedding": y}], torch.empty(0))

        return run

    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    return {
        "clip": {"sentence-transformers, both directions": build(**both)},
        "one direction": {"sentence-transformers": build()},
    }


def _lightly() -> dict[str, dict[str, Way]]:
    with mock.patch.dict(sys.modules, _TORCHVISION):
        loss = _module("lightly", "loss/ntx_ent_loss.py").NTXentLoss(temperature=1 / 20)
    return {"nt_xent": {"lightly": lambda x, y, _: loss(x, y)}}
