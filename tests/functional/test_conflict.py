import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_contrastive.functional import expected_chi, info_nce, multimodal_conflict
from tests.functional.rows import random_rows, unit_rows
from tests.functional.test_tiles import LargestTensor


def with_one_cosine(cosine: float, num: int, n: int) -> list[Tensor]:
    """Modalities whose rows of one item all have one cosine with each other."""
    gram = torch.full((num, num), cosine, dtype=torch.float64).fill_diagonal_(1)
    root = torch.linalg.cholesky(gram)
    clouds = []
    for m in range(num):
        basis = torch.stack([torch.linalg.qr(random_rows(num, num, seed=i)).Q for i in range(n)])
        clouds.append(basis @ root[m])
    return clouds


@pytest.mark.parametrize(("num", "expected"), [(2, 0), (3, 0.106), (4, 0.144), (8, 0.189), (16, 0.208)])
def test_chi_of_positives_with_one_cosine_is_the_known_one(num: int, expected: float):
    clouds = [unit_rows(5, num - 1), *with_one_cosine(0.6, num - 1, 5)]
    actual = multimodal_conflict(clouds)
    assert actual.chi.tolist() == pytest.approx([expected_chi(0.6, num)] * 5, abs=1e-12)
    assert expected_chi(0.6, num) == pytest.approx(expected, abs=5e-4)
    if num > 2:
        assert actual.chi_limit.item() == pytest.approx(1 - math.sqrt(0.6), abs=1e-12)
        assert pytest.approx(actual.chi_limit.item(), abs=5e-4) == 0.225


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.9])
def test_chi_grows_with_modalities_to_its_limit(cosine: float):
    values = [expected_chi(cosine, m) for m in (2, 3, 4, 8, 16, 1000)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1 - math.sqrt(cosine), abs=0.04)
    assert values[-1] < 1 - math.sqrt(cosine)


@pytest.mark.parametrize("anchor", [0, 1, 2])
def test_attraction_and_repulsion_are_the_gradient_of_info_nce(anchor: int, tile: int):
    weights, temperature = [1.0, 2.5], 0.2
    clouds = [unit_rows(7, 4, seed) for seed in range(3)]
    others = [z for i, z in enumerate(clouds) if i != anchor]
    query = clouds[anchor].clone().requires_grad_()
    loss = sum(
        w * info_nce(query, z, torch.arange(7), 1 / temperature).sum() for w, z in zip(weights, others, strict=True)
    )
    attraction = sum(w * z for w, z in zip(weights, others, strict=True))
    repulsion = torch.autograd.grad(loss, query)[0] * temperature + attraction
    actual = multimodal_conflict([3 * z for z in clouds], anchor=anchor, weights=weights, temperature=temperature)
    torch.testing.assert_close(actual.zeta, F.cosine_similarity(attraction, repulsion), rtol=0, atol=1e-10)
    torch.testing.assert_close(actual.chi, 1 - attraction.norm(dim=1) / 3.5, rtol=0, atol=1e-12)


def test_zeta_grows_with_modalities_of_centered_noise_and_falls_with_their_offsets():
    # papers.md 5.1: noise 0.15 in 32 dimensions, temperature 0.2.
    base = unit_rows(200, 32)

    def mean_zeta(num: int, offset: float) -> float:
        clouds = [
            base + 0.15 * random_rows(200, 32, seed=m + 1) + offset * unit_rows(1, 32, seed=m + 100)
            for m in range(num)
        ]
        return multimodal_conflict(clouds, temperature=0.2).zeta.mean().item()

    centered = [mean_zeta(num, 0) for num in (2, 3, 4, 8, 16)]
    assert centered == sorted(centered)
    offset = [mean_zeta(num, 1.0) for num in (2, 16)]
    assert offset[1] - offset[0] < centered[-1] - centered[0]


def test_order_and_rotation_do_not_matter():
    clouds, rotation = [unit_rows(7, 4, seed) for seed in range(3)], torch.linalg.qr(random_rows(4, 4, seed=9)).Q
    expected = multimodal_conflict(clouds)
    rotated = multimodal_conflict([z @ rotation for z in clouds])
    swapped = multimodal_conflict([clouds[0], clouds[2], clouds[1]])
    flipped = multimodal_conflict([z.flip(0) for z in clouds])
    for other in (rotated, swapped):
        torch.testing.assert_close(other.zeta, expected.zeta)
        torch.testing.assert_close(other.chi, expected.chi)
    torch.testing.assert_close(flipped.zeta, expected.zeta.flip(0))


def test_memory_is_that_of_rows_and_tiles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hf_contrastive.functional.tiles.TILE", 128)
    clouds = [unit_rows(2048, 8, seed).float() for seed in range(3)]
    with LargestTensor() as memory:
        multimodal_conflict(clouds)
    # Rows in double precision.
    assert memory.largest <= max(2 * 128**2, 2 * 2048 * 8)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (1, {}, "`clouds` must hold at least two modalities, but got 1"),
        (3, {"anchor": 3}, "`anchor` must be the place of one of 3 modalities, but got 3"),
        (3, {"weights": [1.0]}, "`weights` must hold one number per other modality, 2, but got 1"),
        (2, {"weights": [-1.0]}, "`weights` must be positive"),
        (2, {"temperature": 0.0}, "`temperature` must be positive"),
    ],
)
def test_refuses_what_it_is_not_defined_for(given: int, options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        multimodal_conflict([unit_rows(4, 3)] * given, **options)


def test_no_three_vectors_are_all_opposite():
    with pytest.raises(ValueError, match=r"3 unit vectors cannot have the one `cosine` -0\.6"):
        expected_chi(-0.6, 4)
    with pytest.raises(ValueError, match="`num_modalities` must be at least 2"):
        expected_chi(0.5, 1)
    assert expected_chi(-0.5, 4) == 1
