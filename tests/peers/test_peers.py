"""The same numbers as other packages' own code, where that is installed.

    pip install --no-deps open_clip_torch lightly pytorch-metric-learning sentence-transformers

Gradients of embeddings are compared as well. Tolerance 1e-9 in double precision.
"""

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.functional import alignment, uniformity
from hf_contrastive.losses import CLIP, ContrastiveLoss, InfoNCE, SigLIP, total
from hf_contrastive.losses.dcl import DCL, DCLW
from hf_contrastive.losses.nt_xent import NTXent
from hf_contrastive.losses.sup_con import SupCon
from hf_contrastive.testing import batch_of, random_output
from tests.losses.loops import IDS, WithIds


SCALE = 7.0
TWO = ("image", "text")


def normalized(*modalities: str) -> tuple[ContrastiveBatch, list[Tensor]]:
    """A batch of unit rows and the raw rows that they are made of: peers normalize once more, which unit rows feel in
    their gradients and raw ones do not."""
    output = random_output(modalities=modalities)
    raw = {m: (x.detach() * torch.linspace(0.5, 2, 8).unsqueeze(1)).requires_grad_() for m, x in output.embeds.items()}
    return batch_of(output._replace(embeds={m: F.normalize(x, dim=1) for m, x in raw.items()})), list(raw.values())


@pytest.fixture
def pair() -> tuple[ContrastiveBatch, list[Tensor]]:
    return normalized(*TWO)


def module(package: str, file: str) -> ModuleType:
    """One file of an installed package, without the rest of it, which may want packages of its own."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    path = Path(spec.submodule_search_locations[0]) / file
    loaded = importlib.util.spec_from_file_location(f"peer_{package}_{path.stem}", path)
    assert loaded is not None
    assert loaded.loader is not None
    found = importlib.util.module_from_spec(loaded)
    # lightly asks torchvision for what its losses do not use; it does not load with every torch.
    torchvision = {f"torchvision{part}": mock.MagicMock() for part in ("", ".ops", ".transforms", ".models", ".io")}
    with mock.patch.dict(sys.modules, torchvision):
        loaded.loader.exec_module(found)
    return found


def assert_same(ours: Tensor, peer: Tensor, raw: list[Tensor]) -> None:
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-9)
    for mine, theirs in zip(
        *(torch.autograd.grad(value, raw, retain_graph=True) for value in (ours, peer)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


# ---- open_clip ----


def test_clip_is_that_of_open_clip(pair: tuple[ContrastiveBatch, list[Tensor]]):
    batch, raw = pair
    peer = module("open_clip", "loss.py").ClipLoss()
    assert_same(total(CLIP()(batch)), peer(batch.world["image"], batch.world["text"], batch.logit_scale), raw)


def test_siglip_is_that_of_open_clip(pair: tuple[ContrastiveBatch, list[Tensor]]):
    batch, raw = pair
    peer = module("open_clip", "loss.py").SigLipLoss()
    theirs = peer(batch.world["image"], batch.world["text"], batch.logit_scale, batch.logit_bias)
    assert_same(total(SigLIP()(batch)), theirs, raw)


# ---- lightly ----


def test_nt_xent_is_that_of_lightly(pair: tuple[ContrastiveBatch, list[Tensor]]):
    batch, raw = pair
    peer = module("lightly", "loss/ntx_ent_loss.py").NTXentLoss(temperature=1 / SCALE)
    assert_same(total(NTXent()(batch)), peer(batch.world["image"], batch.world["text"]), raw)


@pytest.mark.parametrize(("loss", "name"), [(DCL(within=True), "DCLLoss"), (DCLW(within=True), "DCLWLoss")])
def test_dcl_is_that_of_lightly(loss: ContrastiveLoss, name: str, pair: tuple[ContrastiveBatch, list[Tensor]]):
    """Since lightly 1.6, which has one logarithm over the negatives of both views, as in Equation 6 of the paper."""
    batch, raw = pair
    peer = getattr(module("lightly", "loss/dcl_loss.py"), name)(temperature=1 / SCALE)
    with warnings.catch_warnings():
        # DCLWLoss wraps a tensor in torch.tensor.
        warnings.simplefilter("ignore", UserWarning)
        theirs = peer(batch.world["image"], batch.world["text"])
    assert_same(total(loss(batch)), theirs, raw)


# ---- pytorch-metric-learning ----


@pytest.fixture
def metric_learning() -> ModuleType:
    return pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")


def test_sup_con_over_views_is_that_of_pytorch_metric_learning(
    pair: tuple[ContrastiveBatch, list[Tensor]], metric_learning: ModuleType
):
    batch, raw = pair
    peer = metric_learning.SupConLoss(temperature=1 / SCALE)
    theirs = peer(torch.cat([batch.world[m] for m in TWO]), torch.tensor(IDS * 2))
    assert_same(total(WithIds(SupCon(within=True))(batch)), theirs, raw)


def test_sup_con_across_modalities_is_that_of_pytorch_metric_learning(
    pair: tuple[ContrastiveBatch, list[Tensor]], metric_learning: ModuleType
):
    batch, raw = pair
    peer, labels = metric_learning.SupConLoss(temperature=1 / SCALE), torch.tensor(IDS)
    image, text = (batch.world[m] for m in TWO)
    # Labels that are one object with those of the keys would have the diagonal left out.
    ways = [peer(x, labels, ref_emb=y, ref_labels=labels.clone()) for x, y in ((image, text), (text, image))]
    assert_same(total(WithIds(SupCon())(batch)), sum(ways) / 2, raw)


def test_nt_xent_is_that_of_pytorch_metric_learning(
    pair: tuple[ContrastiveBatch, list[Tensor]], metric_learning: ModuleType
):
    batch, raw = pair
    peer = metric_learning.NTXentLoss(temperature=1 / SCALE)
    theirs = peer(torch.cat([batch.world[m] for m in TWO]), torch.arange(8).repeat(2))
    assert_same(total(NTXent()(batch)), theirs, raw)


# ---- sentence-transformers ----


class Embedded(torch.nn.Module):
    """A model whose embeddings are its input."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


@pytest.mark.parametrize(
    ("loss", "directions"),
    [
        pytest.param(InfoNCE(anchor="image", symmetric=False), ["query_to_doc"], id="one direction"),
        pytest.param(CLIP(), ["query_to_doc", "doc_to_query"], id="both directions"),
        pytest.param(
            InfoNCE(anchor="image", symmetric=False, within=True), ["query_to_doc", "query_to_query"], id="own rows"
        ),
    ],
)
def test_info_nce_is_the_ranking_loss_of_sentence_transformers(
    loss: ContrastiveLoss, directions: list[str], pair: tuple[ContrastiveBatch, list[Tensor]]
):
    batch, raw = pair
    peer = ranking_loss(directions)
    theirs = peer([{"sentence_embedding": batch.world[m]} for m in TWO], torch.empty(0))
    assert_same(total(loss(batch)), theirs, raw)


def test_hard_negatives_are_those_of_sentence_transformers():
    batch, raw = normalized(*TWO, "wrong_text")
    theirs = ranking_loss(["query_to_doc"])(
        [{"sentence_embedding": batch.world[m]} for m in (*TWO, "wrong_text")], torch.empty(0)
    )
    loss = InfoNCE(anchor="image", symmetric=False, hard_negatives=["wrong_text"])
    assert_same(total(loss(batch)), theirs, raw)


def ranking_loss(directions: list[str]) -> torch.nn.Module:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from sentence_transformers.losses import MultipleNegativesRankingLoss
    mode = "per_direction" if "doc_to_query" in directions else "joint"
    return MultipleNegativesRankingLoss(Embedded(), scale=SCALE, directions=tuple(directions), partition_mode=mode)


# ---- align_uniform ----


def test_alignment_and_uniformity_are_those_of_align_uniform():
    peer = pytest.importorskip(
        "align_uniform", reason="align_uniform (github.com/ssnl/align_uniform) is not installed"
    )
    x, y = (x.detach() for x in random_output().embeds.values())
    torch.testing.assert_close(alignment(x, y), peer.align_loss(x, y), rtol=0, atol=1e-9)
    torch.testing.assert_close(uniformity(x), peer.uniform_loss(x), rtol=0, atol=1e-9)
