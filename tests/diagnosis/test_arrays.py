"""Arrays for plots, against numpy and scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from hf_contrastive.diagnosis import arrays
from hf_contrastive.diagnosis.arrays import compose, cosine_histogram, project
from hf_contrastive.functional import cloud_distance, subspace_overlap
from tests.diagnosis.conftest import clouds


def unit(rows: int = 40, gap: float = 1.0) -> dict[str, torch.Tensor]:
    return {m: F.normalize(x.double(), dim=1) for m, x in clouds(rows=rows, gap=gap).items()}


def test_the_projection_is_the_pca_of_scikit_learn_up_to_signs():
    x = unit()
    joint = torch.cat(list(x.values())).numpy()
    reference = PCA(2).fit(joint)
    found = project(x)
    assert found.shares == pytest.approx(reference.explained_variance_ratio_, abs=1e-9)
    for m, points in found.points.items():
        np.testing.assert_allclose(points.abs().numpy(), np.abs(reference.transform(x[m].numpy())), atol=1e-5)
        np.testing.assert_allclose(found.centers[m].numpy(), points.mean(dim=0).numpy(), atol=1e-5)


@pytest.mark.parametrize("flipped", range(8))
def test_the_largest_entry_of_a_direction_is_positive(flipped: int):
    signs = torch.ones(8, dtype=torch.float64)
    signs[flipped] = -1
    x = {m: z * signs for m, z in unit().items()}
    joint, points = torch.cat(list(x.values())), torch.cat(list(project(x).points.values()))
    directions = torch.linalg.lstsq(joint - joint.mean(dim=0), points.double()).solution
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0.3).all()


def test_a_subset_of_rows_is_drawn_and_the_centers_are_of_all(monkeypatch: pytest.MonkeyPatch):
    whole = project(unit())
    monkeypatch.setattr(arrays, "MAX_POINTS", 7)
    found = project(unit(), seed=1)
    assert len(found.rows) == 7
    torch.testing.assert_close(found.points["text"], whole.points["text"][found.rows])
    torch.testing.assert_close(found.centers["text"], whole.centers["text"])


def test_a_collapsed_cloud_has_a_place():
    found = project({"image": torch.ones(9, 3), "text": torch.ones(9, 3)})
    torch.testing.assert_close(found.points["image"], torch.zeros(9, 2), atol=1e-6, rtol=0)
    assert all(np.isfinite(found.shares))


def test_a_width_of_one_has_no_two_directions():
    with pytest.raises(ValueError, match=r"Two directions need .* width is 1"):
        project({"image": torch.ones(9, 1), "text": torch.ones(9, 1)})


def test_histograms_are_densities_with_the_means_of_the_cosines():
    x = unit()
    found = cosine_histogram(*x.values())
    for density in (found.matched, found.unmatched, found.permuted):
        assert np.sum(np.array(density) * np.diff(found.edges)) == pytest.approx(1, abs=1e-4)
    cosines = (x["image"] @ x["text"].T).numpy()
    assert found.means["matched"] == pytest.approx(np.diag(cosines).mean(), abs=1e-6)
    others = cosines[~np.eye(40, dtype=bool)]
    # A sample of half of them; one standard error is about 0.005.
    assert found.means["unmatched"] == pytest.approx(others.mean(), abs=0.03)
    assert found.means["permuted"] < found.means["matched"]
    expected, _ = np.histogram(np.diag(cosines), np.array(found.edges), density=True)
    np.testing.assert_allclose(found.matched, expected, atol=1e-3)


def test_rows_of_one_id_are_not_unmatched():
    # Two things, each shown by ten equal rows: unmatched cosines are all -1.
    x = torch.cat([torch.ones(10, 2), -torch.ones(10, 2)])
    found = cosine_histogram(x, x, ids=torch.arange(20) // 10)
    assert found.means == pytest.approx({"matched": 1, "unmatched": -1, "permuted": -1}, abs=1e-6)
    with pytest.raises(ValueError, match="two different ids or more, but all 20 rows have one"):
        cosine_histogram(x, x, ids=torch.zeros(20, dtype=torch.long))


def test_the_composition_names_modalities_and_has_halves_as_control():
    x, y = unit().values()
    halves = torch.arange(20), torch.arange(20, 40)
    found = compose(x, y, ("image", "text"), halves)
    assert list(found.matched) == ["total", "centers", "spread_image", "spread_text", "shared"]
    controls = [float(cloud_distance(z[:20], z[20:]).orientation) for z in (x, y)]
    assert found.clouds_control["orientation"] == pytest.approx(sum(controls) / 2)
    assert found.clouds["total"] == pytest.approx(float(cloud_distance(x, y).total))
    assert found.subspace_overlap == pytest.approx({k: float(subspace_overlap(x, y, k)) for k in (1, 4)})
