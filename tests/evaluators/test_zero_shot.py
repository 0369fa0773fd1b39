from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset

from hf_contrastive.evaluators import ZeroShot
from tests.evaluators.encoders import Lookup


NAMES = ["red", "green", "blue"]
AXES = {"red": [1.0, 0.0, 0.0], "green": [0.0, 1.0, 0.0], "blue": [0.0, 0.0, 1.0]}


def of_text(text: str) -> list[float]:
    color = next(name for name in NAMES if name in text)
    noise = 0.5 if "photo" in text else 0.0
    return [x + noise for x in AXES[color]]


def dataset(labels: list[Any]) -> Dataset:
    return Dataset.from_dict(
        {"image": [[9.0, 3.0, 1.0], [9.0, 3.0, 1.0], [1.0, 3.0, 9.0], [3.0, 9.0, 1.0]], "label": labels}
    )


def test_accuracy_is_that_of_a_plain_loop():
    labels = [0, 1, 2, 1]  # the second is wrong: its nearest is red, and green comes second
    evaluator = ZeroShot(dataset(labels), NAMES, ["{}", "a photo of a {}."], ks=(1, 2, 5))
    encode = Lookup(image=lambda x: x, text=of_text)
    found = evaluator(encode)
    assert found == pytest.approx(
        {"zeroshot/top1": 0.75, "zeroshot/top2": 1.0, "zeroshot/mean_per_class": (1 + 0.5 + 1) / 3}, abs=1e-6
    )
    assert encode.asked[0] == ("text", [t for n in NAMES for t in (n, f"a photo of a {n}.")])


def test_a_collapsed_model_scores_like_chance():
    found = ZeroShot(dataset([0, 1, 2, 1]), NAMES, ks=(1, 2))(Lookup(image=lambda _: [1, 1], text=lambda _: [1, 1]))
    assert found == pytest.approx(
        {"zeroshot/top1": 1 / 3, "zeroshot/top2": 2 / 3, "zeroshot/mean_per_class": 1 / 3}, abs=1e-6
    )


def test_names_and_class_labels_will_do_for_labels():
    encode = Lookup(image=lambda x: x, text=of_text)
    numbers = ZeroShot(dataset([0, 1, 2, 1]), NAMES)
    names = ZeroShot(dataset(["red", "green", "blue", "green"]), NAMES)
    typed = ZeroShot(dataset([0, 1, 2, 1]).cast_column("label", ClassLabel(names=NAMES)), NAMES)
    tensors = ZeroShot(dataset([0, 1, 2, 1]).with_format("torch"), NAMES)
    assert numbers(encode) == names(encode) == typed(encode) == tensors(encode)


def test_texts_and_lists_of_rows_can_be_classified_under_any_name():
    rows = [{"words": "something red", "kind": 0}, {"words": "so blue", "kind": 2}]
    evaluator = ZeroShot(rows, NAMES, column="words", label_column="kind", modality="text", name="topics")
    assert evaluator(Lookup(text=of_text)) == {"topics/top1": 1.0, "topics/mean_per_class": 1.0}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0, 1, 3, 1], NAMES), {}, r"Row 2 has the label 3 in column 'label', which should be a number from 0 to 2"),
        (([0, -1, 2, 1], NAMES), {}, r"Row 1 has the label -1"),
        ((["red", "pink", "red", "red"], NAMES), {}, r"Row 1 has the label 'pink'"),
        (([0.5, 1.0, 2.0, 1.0], NAMES), {}, r"Row 0 has the label 0\.5"),
        (([0, 1, 2, 1], ["red", "", "blue"]), {}, r"class 1 is ''"),
        (([0, 1, 2, 1], ["red", "green", "red"]), {}, r"holds 'red' twice, as classes 0 and 2"),
        (([0, 0, 0, 0], ["red"]), {}, r"two or more names, but got \['red'\]"),
        (([0, 1, 2, 1], "red"), {}, r"must be a list of two or more names, but got 'red'"),
        (([0, 1, 2, 1], NAMES), {"templates": ["a photo"]}, r"The template 'a photo' has no `\{\}`"),
        (([0, 1, 2, 1], NAMES), {"templates": []}, r"`templates` must be a list of one or more texts"),
        (([0, 1, 2, 1], NAMES), {"templates": "a {}"}, r"`templates` must be a list"),
        (
            ([0, 1, 2, 1], NAMES),
            {"column": "picture"},
            r"`column` is 'picture', but the dataset has .*'image', 'label'",
        ),
        (([0, 1, 2, 1], NAMES), {"label_column": "class"}, r"`label_column` is 'class'"),
        (([0, 1, 2, 1], NAMES), {"ks": (0,)}, r"`ks` must hold numbers from 1"),
    ],
)
def test_what_cannot_be_classified_is_refused_at_once(arguments: tuple[Any, Any], options: Any, message: str):
    labels, names = arguments
    with pytest.raises(ValueError, match=message):
        ZeroShot(dataset(labels), getattr(names, "copy", lambda: names)(), **options)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="The dataset of an evaluator is empty"):
        ZeroShot(dataset([0, 1, 2, 1]).select([]), NAMES)


def test_pictures_are_read_when_they_are_embedded_and_not_before():
    class Rows(list[dict[str, Any]]):
        def __getitem__(self, row: int) -> dict[str, Any]:
            return super().__getitem__(row)

    rows = Rows([{"image": torch.eye(3)[i].tolist(), "label": i} for i in range(3)])
    evaluator = ZeroShot(rows, NAMES)
    assert list(evaluator.values[1:]) == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert evaluator.values[-1] == [0.0, 0.0, 1.0]
    assert len(evaluator.values) == 3
