import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.losses import InfoNCE, total
from hf_contrastive.testing import batch_of, random_output
from tests.losses.dense import THREE, Rows, assert_matches, on_every_batch


def one_way(rows: Rows, query: str, key: str, scale: Tensor) -> Tensor:
    """Equation 4 of van den Oord et al. 2018 as a classification among the keys of complete items."""
    queries, keys = rows(query, key)
    return F.cross_entropy(scale * queries @ keys.T, torch.arange(len(queries)))


@on_every_batch
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_matches_cross_entropy_in_all_directions(
    modalities: tuple[str, ...], missing: dict[str, list[int]], chunk_size: int | None
):
    def formula(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        ways = [(a, b) for a in modalities for b in modalities if a != b]
        return sum(one_way(rows, *way, scale) for way in ways) / len(ways)

    assert_matches(InfoNCE(chunk_size=chunk_size), formula, modalities, missing)


@on_every_batch
@pytest.mark.parametrize("anchor", ["image", "text"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_an_anchor_keeps_its_own_directions(
    modalities: tuple[str, ...], missing: dict[str, list[int]], anchor: str, symmetric: bool
):
    def formula(rows: Rows, scale: Tensor, _: Tensor) -> Tensor:
        others = [m for m in modalities if m != anchor]
        ways = [(anchor, m) for m in others] + [(m, anchor) for m in others if symmetric]
        return sum(one_way(rows, *way, scale) for way in ways) / len(ways)

    assert_matches(InfoNCE(anchor=anchor, symmetric=symmetric), formula, modalities, missing)


def test_one_direction_needs_an_anchor():
    with pytest.raises(ValueError, match="`symmetric=False` compares in one direction, so it needs `anchor`"):
        InfoNCE(symmetric=False)


def test_an_anchor_that_is_no_modality_is_refused():
    message = r"`anchor` must be one of the modalities \['audio', 'image', 'text'\], but got 'video'"
    with pytest.raises(ValueError, match=message):
        InfoNCE(anchor="video")(batch_of(random_output(modalities=THREE)))


def test_logs_one_term():
    terms = InfoNCE()(batch_of(random_output()))
    assert list(terms) == ["info_nce"]
    assert total(terms).item() == terms["info_nce"].item()
