import pytest
import torch
from datasets import Dataset

from hf_contrastive.evaluators import LinearProbe, NearestNeighbors
from hf_contrastive.evaluators.probes import Probe
from tests.evaluators.encoders import Lookup


def clouds(n: int, seed: int, classes: int = 3) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    x = 3 * torch.eye(3)[labels] + torch.randn(n, 3, generator=generator)
    return Dataset.from_dict({"image": x.tolist(), "label": labels.tolist()})


SAME = Lookup(image=lambda x: x)


def test_nearest_neighbors_vote_as_in_a_plain_loop():
    train, test = clouds(30, 0), clouds(12, 1)
    found = NearestNeighbors(train, test, k=1)(SAME)
    x, y = SAME("image", train["image"]), SAME("image", test["image"])
    nearest = (y @ x.T).argmax(dim=1)
    right = torch.tensor(train["label"])[nearest] == torch.tensor(test["label"])
    assert found["knn/top1"] == pytest.approx(right.double().mean().item(), abs=1e-6)


def test_a_linear_probe_separates_what_can_be_separated():
    found = LinearProbe(clouds(30, 0), clouds(12, 1), l2=1e-2)(SAME)
    assert set(found) == {"linear_probe/top1", "linear_probe/mean_per_class"}
    assert found["linear_probe/top1"] > 0.7
    assert LinearProbe(clouds(30, 0), clouds(12, 1), l2=1e-2)(SAME) == found


@pytest.mark.parametrize("probe", [LinearProbe, NearestNeighbors])
def test_embeddings_that_say_nothing_are_worth_a_guess(probe: type[Probe]):
    found = probe(clouds(30, 0), clouds(12, 1), name="mine")(Lookup(image=lambda _: [1.0, 2.0]))
    assert found["mine/mean_per_class"] == pytest.approx(1 / 3, abs=1e-6)


def test_classes_count_alike_whatever_their_size():
    test = clouds(12, 1)
    test = test.select([0, 1, 2, 3, 6, 9])  # class 0 four times, classes 1 and 2 once
    found = NearestNeighbors(clouds(30, 0), test, k=3)(SAME)
    votes = NearestNeighbors(clouds(30, 0), test, k=3)
    hits = votes.scores(SAME("image", votes.train), SAME("image", votes.test)).argmax(dim=1) == votes.test_labels
    classes = [hits[votes.test_labels == c].double().mean().item() for c in range(3)]
    assert found["knn/mean_per_class"] == pytest.approx(sum(classes) / 3, abs=1e-6)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two or more classes, but all its labels are 0"):
        LinearProbe(clouds(4, 0, classes=1), clouds(4, 0, classes=1))


def test_a_class_without_an_example_to_learn_from_is_named():
    with pytest.raises(ValueError, match="no example of class 2, which `test_dataset` shows"):
        NearestNeighbors(clouds(10, 0, classes=2), clouds(12, 1))


def test_labels_must_be_numbers():
    with pytest.raises(ValueError, match="Row 0 has the label 'a' in column 'label', which should be a number from 0"):
        LinearProbe(Dataset.from_dict({"image": [[1.0], [2.0]], "label": ["a", "b"]}), clouds(3, 0))
