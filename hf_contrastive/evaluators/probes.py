"""What frozen embeddings know of classes: a linear probe and nearest neighbours."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from hf_contrastive.evaluators.columns import Column, read_labels
from hf_contrastive.evaluators.protocol import Encoder
from hf_contrastive.functional import class_ranks, linear_probe, mean_per_class, neighbor_scores


class Probe:
    """
    Base of probes: a classifier learns from the embeddings of one dataset and is tested on those of another.

    Args:
        train_dataset (`datasets.Dataset` or `torch.utils.data.Dataset`):
            Labelled examples to learn from.
        test_dataset (`datasets.Dataset` or `torch.utils.data.Dataset`):
            Labelled examples to test on.
        column (`str`, *optional*, defaults to `"image"`):
            Column of what is classified.
        label_column (`str`, *optional*, defaults to `"label"`):
            Column of class numbers from 0.
        modality (`str`, *optional*, defaults to `"image"`):
            Modality of `column`.
        name (`str`):
            What names of metrics begin with.

    Raises:
        ValueError: A column is missing, a label is no number from 0, there is one class only, or a class of the test
            set has no example to learn from.
    """

    def __init__(
        self,
        train_dataset: Any,
        test_dataset: Any,
        *,
        column: str = "image",
        label_column: str = "label",
        modality: str = "image",
        name: str,
    ) -> None:
        self.modality, self.name = modality, name
        self.train, self.test = (Column(dataset, column, "column") for dataset in (train_dataset, test_dataset))
        self.train_labels, self.test_labels = (
            read_labels(dataset, label_column, None) for dataset in (train_dataset, test_dataset)
        )
        known = set(self.train_labels.tolist())
        if len(known) < 2:
            raise ValueError(f"`train_dataset` must show two or more classes, but all its labels are {known.pop()}.")
        if unknown := sorted(set(self.test_labels.tolist()) - known):
            raise ValueError(f"`train_dataset` has no example of class {unknown[0]}, which `test_dataset` shows.")
        self.num_classes = max(known) + 1

    def __call__(self, encode: Encoder) -> dict[str, float]:
        """`<name>/top1`, and `<name>/mean_per_class`: accuracy of each class of the test set, averaged."""
        scores = self.scores(encode(self.modality, self.train), encode(self.modality, self.test))
        hits = class_ranks(scores, self.test_labels).hits(1)
        return {
            f"{self.name}/top1": float(hits.mean()),
            f"{self.name}/mean_per_class": float(mean_per_class(hits, self.test_labels)),
        }

    def scores(self, train: Float[Tensor, "n d"], test: Float[Tensor, "m d"]) -> Float[Tensor, "m C"]:
        """Score of each class for each test row."""
        raise NotImplementedError


class LinearProbe(Probe):
    """
    Accuracy of a logistic regression on standardized, frozen embeddings.

    Args:
        args (`tuple`):
            Datasets to learn from and to test on, see [`Probe`].
        l2 (`float`, *optional*, defaults to 0.001):
            Strength of the penalty on weights. scikit-learn's `C` is 1 / (rows * l2).
        max_iter (`int`, *optional*, defaults to 500):
            Most iterations of L-BFGS.
        kwargs (`dict`):
            Columns, modality and name, see [`Probe`].
    """

    def __init__(
        self, *args: Any, l2: float = 1e-3, max_iter: int = 500, name: str = "linear_probe", **kwargs: Any
    ) -> None:
        super().__init__(*args, name=name, **kwargs)
        self.l2, self.max_iter = l2, max_iter

    def scores(self, train: Float[Tensor, "n d"], test: Float[Tensor, "m d"]) -> Float[Tensor, "m C"]:
        return linear_probe(
            train, self.train_labels, test, num_classes=self.num_classes, l2=self.l2, max_iter=self.max_iter
        )


class NearestNeighbors(Probe):
    """
    Accuracy of a vote of the nearest examples, weighted by their cosines as DINO does.

    Args:
        args (`tuple`):
            Datasets to learn from and to test on, see [`Probe`].
        k (`int`, *optional*, defaults to 20):
            Neighbours that vote.
        temperature (`float`, *optional*, defaults to 0.07):
            Cosine difference over which a vote's weight falls by e.
        kwargs (`dict`):
            Columns, modality and name, see [`Probe`].
    """

    def __init__(self, *args: Any, k: int = 20, temperature: float = 0.07, name: str = "knn", **kwargs: Any) -> None:
        super().__init__(*args, name=name, **kwargs)
        self.k, self.temperature = k, temperature

    def scores(self, train: Float[Tensor, "n d"], test: Float[Tensor, "m d"]) -> Float[Tensor, "m C"]:
        return neighbor_scores(
            train, self.train_labels, test, num_classes=self.num_classes, k=self.k, temperature=self.temperature
        )
