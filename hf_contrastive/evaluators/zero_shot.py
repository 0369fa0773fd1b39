"""Zero-shot classification: the class whose description is nearest."""

from collections.abc import Sequence
from typing import Any

from hf_contrastive.evaluators.columns import Column, read_labels
from hf_contrastive.evaluators.protocol import Encoder
from hf_contrastive.functional import class_prototypes, mean_per_class, retrieval_ranks


class ZeroShot:
    """
    Accuracy of naming what an example shows by the nearest class description.

    A class is the mean over templates of the unit embeddings of its name in each, scaled to unit length. Equal classes
    share their places, so that a collapsed model scores like chance.

    Example:
    ```python
    trainer = ContrastiveTrainer(..., evaluators=[ZeroShot(dataset, ["cat", "dog"], ["a photo of a {}."])])
    trainer.evaluate()["eval_zeroshot/top1"]
    ```

    Args:
        dataset (`datasets.Dataset` or `torch.utils.data.Dataset`):
            Labelled examples.
        class_names (`list[str]`):
            Name of each class, in the order of the labels.
        templates (`list[str]`, *optional*, defaults to `["{}"]`):
            Texts in which `{}` stands for the name.
        column (`str`, *optional*, defaults to `"image"`):
            Column of what is classified.
        label_column (`str`, *optional*, defaults to `"label"`):
            Column of class numbers from 0, or of class names.
        modality (`str`, *optional*, defaults to `"image"`):
            Modality of `column`.
        ks (`tuple[int]`, *optional*, defaults to `(1, 5)`):
            Accuracies to report; those that reach all classes are left out.
        name (`str`, *optional*, defaults to `"zeroshot"`):
            What names of metrics begin with.

    Raises:
        ValueError: A column is missing, a label is no class, a name is empty or there twice, a template has no `{}`, or
            there are fewer than two classes.
    """

    def __init__(
        self,
        dataset: Any,
        class_names: Sequence[str],
        templates: Sequence[str] = ("{}",),
        *,
        column: str = "image",
        label_column: str = "label",
        modality: str = "image",
        ks: tuple[int, ...] = (1, 5),
        name: str = "zeroshot",
    ) -> None:
        self.class_names, self.templates = _checked_names(class_names), _checked_templates(templates)
        self.column, self.modality, self.name = column, modality, name
        if not ks or min(ks) < 1:
            raise ValueError(f"`ks` must hold numbers from 1, but got {ks}.")
        self.ks = [k for k in ks if k < len(self.class_names)]
        self.values = Column(dataset, column, "column")
        self.labels = read_labels(dataset, label_column, self.class_names)

    def __call__(self, encode: Encoder) -> dict[str, float]:
        """`<name>/top<k>`, and `<name>/mean_per_class`: top-1 accuracy of each class that occurs, averaged."""
        texts = [template.replace("{}", name) for name in self.class_names for template in self.templates]
        prototypes = class_prototypes(encode("text", texts).view(len(self.class_names), len(self.templates), -1))
        classes = self.labels.new_tensor(range(len(self.class_names)))
        ranks = retrieval_ranks(encode(self.modality, self.values), prototypes, query_ids=self.labels, key_ids=classes)
        found = {f"{self.name}/top{k}": float(ranks.recall(k)) for k in self.ks}
        return found | {f"{self.name}/mean_per_class": float(mean_per_class(ranks.hits(1), self.labels))}


def _checked_names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or len(names) < 2:
        raise ValueError(f"`class_names` must be a list of two or more names, but got {names!r}.")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"`class_names` must hold texts, but class {number} is {name!r}.")
        if name in names[:number]:
            raise ValueError(f"`class_names` holds {name!r} twice, as classes {list(names).index(name)} and {number}.")
    return list(names)


def _checked_templates(templates: Sequence[str]) -> list[str]:
    if isinstance(templates, str) or not templates:
        raise ValueError(f"`templates` must be a list of one or more texts, but got {templates!r}.")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"The template {template!r} has no `{{}}` for the name of a class.")
    return list(templates)
