"""What `ExampleDataset` reads of any modalities, draws of lists, and makes of bad rows."""

import pickle
import re
from typing import Any

import numpy as np
import pytest
from datasets import Audio, Dataset, Features, Image, List, Value
from torch.utils.data import DataLoader

from hf_contrastive.data import ExampleDataset, examples
from hf_contrastive.data.skipped import skipped_rows
from tests.conftest import picture


TEXT, FLOATS = Value("string"), List(Value("float32"))
SOUND = {"array": FLOATS, "sampling_rate": Value("int64")}
COLUMNS = {"image": "photo", "text": "words", "audio": "sound", "product": "vector"}


def four_modalities(rows: int = 12, **changed: list[Any]) -> Dataset:
    columns: dict[str, list[Any]] = {
        "photo": [{"bytes": picture("red", row), "path": None} for row in range(rows)],
        "words": [[f"words {row}", f"other {row}"] for row in range(rows)],
        "sound": [{"array": [0.5, row], "sampling_rate": 100} for row in range(rows)],
        "vector": [[1.0, row] for row in range(rows)],
        "wrong": [[f"wrong {row}", f"worse {row}"] for row in range(rows)],
    }
    kinds = Features({"photo": Image(), "words": List(TEXT), "sound": SOUND, "vector": FLOATS, "wrong": List(TEXT)})
    return Dataset.from_dict(columns | changed, features=kinds)


def changed_at(row: int, column: str, value: Any, rows: int = 12) -> Dataset:
    values = list(four_modalities(rows).cast_column("photo", Image(decode=False))[column])
    values[row] = value
    return four_modalities(rows, **{column: values})


def test_kinds_are_told_by_the_columns():
    rows = ExampleDataset(four_modalities(), COLUMNS)
    assert rows.kinds == {"image": "image", "text": "text", "audio": "audio", "product": "embedding"}
    row = rows[3]
    assert list(row) == ["image", "text", "audio", "product"]
    assert row["image"].size == (16, 16)
    assert row["text"] == "words 3"
    assert (row["audio"]["array"].tolist(), row["audio"]["sampling_rate"]) == ([0.5, 3.0], 100)
    assert row["product"] == [1.0, 3.0]


def test_hard_negatives_are_as_many_as_asked_for():
    rows = ExampleDataset(four_modalities(), COLUMNS, hard_negatives={"text": "wrong"})
    assert rows[3]["hard_negatives_text"] == ["wrong 3"]
    rows = ExampleDataset(four_modalities(), COLUMNS, hard_negatives={"text": "wrong"}, num_hard_negatives=2)
    assert rows[3]["hard_negatives_text"] == ["wrong 3", "worse 3"]
    rows = ExampleDataset(four_modalities(), COLUMNS, hard_negatives={"text": "wrong"}, num_hard_negatives=3)
    with pytest.raises(ValueError, match="Row 3 of the dataset has 2 hard negatives in column 'wrong', but needs 3"):
        rows[3]


def test_rows_may_lack_modalities_but_two():
    rows = ExampleDataset(changed_at(3, "words", None), COLUMNS)
    assert rows[3]["text"] is None
    few = ExampleDataset(changed_at(3, "words", []), {"text": "words", "product": "vector"})
    with pytest.raises(ValueError, match="Row 3 of the dataset has no caption in column 'words'"):
        few[3]


# ---- Lists ----


def epochs(rows: ExampleDataset, number: int = 20) -> list[list[Any]]:
    found = []
    for epoch in range(number):
        rows.set_epoch(epoch)
        found.append([row["text"] for row in rows.__getitems__(range(len(rows)))])
    return found


def test_random_values_are_drawn_anew_in_each_epoch_whoever_reads_them():
    rows = ExampleDataset(four_modalities(), COLUMNS, pick={"text": "random"}, seed=3)
    texts = epochs(rows)
    assert {text for epoch in texts for text in epoch} == {
        f"{w} {row}" for w in ("words", "other") for row in range(12)
    }
    assert texts[0] != texts[1]
    assert texts == epochs(ExampleDataset(four_modalities(), COLUMNS, pick={"text": "random"}, seed=3))


def test_workers_that_live_on_draw_anew_too():
    rows = ExampleDataset(four_modalities(), COLUMNS, pick="random")
    expected = epochs(rows, 3)
    loader = DataLoader(
        rows, batch_size=4, num_workers=1, persistent_workers=True, collate_fn=lambda batch: [x["text"] for x in batch]
    )
    for epoch, texts in enumerate(expected):
        rows.set_epoch(epoch)
        assert [text for batch in loader for text in batch] == texts


def test_all_values_are_examples_that_share_an_id():
    words = [["a", " ", "b"], ["c"], ["d", "e", "f"]]
    rows = ExampleDataset(four_modalities(3, words=words), COLUMNS, pick="all")
    found = rows.__getitems__(range(len(rows)))
    assert [(x["example_ids"], x["text"]) for x in found] == [
        (0, "a"),
        (0, "b"),
        (1, "c"),
        (2, "d"),
        (2, "e"),
        (2, "f"),
    ]
    assert found[1]["product"] == [1.0, 0.0]


def test_all_values_of_two_lists_are_refused():
    columns = {"text": "words", "more": "wrong"}
    with pytest.raises(ValueError, match=r"'all' for one modality with lists, but the dataset has \['text', 'more'\]"):
        ExampleDataset(four_modalities(), columns, pick="all")


# ---- Bad rows ----

BAD = {
    "undecodable image": ("photo", {"bytes": b"no picture", "path": None}, "The image in row 5 of the cats"),
    "empty caption": ("words", [" ", ""], "Row 5 of the cats has no caption in column 'words'"),
    "nan in an embedding": ("vector", [1.0, float("nan")], "Row 5 of the cats has an embedding with NaN"),
    "embedding of zeros": ("vector", [0.0, 0.0], "Row 5 of the cats has an embedding of nothing but zeros"),
    "silence": ("sound", {"array": [0.0, 0.0], "sampling_rate": 100}, "has a sound of nothing but zeros"),
    "empty sound": ("sound", {"array": [], "sampling_rate": 100}, "Row 5 of the cats has a sound without any numbers"),
}


@pytest.mark.parametrize(("column", "value", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_or_replaced_and_counted(
    column: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
):
    data = changed_at(5, column, value)
    with pytest.raises(ValueError, match=message):
        ExampleDataset(data, COLUMNS, name="cats").__getitems__([4, 5])

    rows = ExampleDataset(data, COLUMNS, name="cats", on_bad_row="skip")
    assert rows.skipped_rows == 0
    warnings: list[str] = []
    monkeypatch.setattr(examples.logger, "warning", warnings.append)
    found = rows.__getitems__([4, 5, 6])
    assert len(found) == 3
    assert rows.skipped_rows == 1
    assert [found[0]["product"], found[2]["product"]] == [[1.0, 4.0], [1.0, 6.0]]
    assert found[1]["product"][1] not in (4.0, 5.0, 6.0), "none that is in the batch already"
    rows.__getitems__([5])
    assert len(warnings) == 1, "once for each row"
    assert re.search(rf"{message}.* It is skipped, and another row takes its place\.$", warnings[0])
    again = ExampleDataset(data, COLUMNS, name="cats", on_bad_row="skip").__getitems__([4, 5, 6])
    assert again[1]["product"] == found[1]["product"]


def test_workers_count_what_they_skip():
    rows = ExampleDataset(changed_at(5, "words", []), {"text": "words", "product": "vector"}, on_bad_row="skip")
    loader = DataLoader(rows, batch_size=4, num_workers=2, collate_fn=len)
    assert list(loader) == [4, 4, 4]
    assert list(loader) == [4, 4, 4]
    assert rows.skipped_rows == 2
    assert skipped_rows(rows) == {"data/skipped_rows": 2}


def test_rows_that_replace_bad_ones_differ_among_each_other():
    words = [[f"words {row}"] if row < 6 else [] for row in range(12)]
    rows = ExampleDataset(four_modalities(words=words), {"text": "words", "product": "vector"}, on_bad_row="skip")
    texts = [x["text"] for x in rows.__getitems__([0, 1, 6, 7, 8])]
    assert len(set(texts)) == 5
    assert rows.skipped_rows == 3


def test_nothing_but_bad_rows_is_an_error():
    rows = ExampleDataset(four_modalities(words=[[]] * 12), {"text": "words", "product": "vector"}, on_bad_row="skip")
    with pytest.raises(
        ValueError, match=r"^Of 100 rows drawn in place of a bad one of the dataset, none is good\. Row"
    ):
        rows[2]


def test_a_dataset_that_raises_has_nothing_to_count():
    rows = ExampleDataset(four_modalities(), COLUMNS)
    assert rows.skipped_rows is None
    assert skipped_rows(rows) == skipped_rows(object()) == {}


def test_the_dataset_can_be_pickled():
    rows = pickle.loads(pickle.dumps(ExampleDataset(four_modalities(), COLUMNS)))
    assert rows[2]["text"] == "words 2"


def sounds_in_files(monkeypatch: pytest.MonkeyPatch, found: Any) -> Dataset:
    """A column of encoded sounds, all of which decode to `found` or raise it: no decoder of sounds is needed."""

    def decode(feature: Audio, value: dict[str, Any], **_: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        assert value == {"bytes": b"RIFF", "path": None}
        return found

    monkeypatch.setattr(Audio, "decode_example", decode)
    columns = {"sound": [{"bytes": b"RIFF", "path": None}] * 4, "words": ["a", "b", "c", "d"]}
    stored = Features({"sound": {"bytes": Value("binary"), "path": TEXT}, "words": TEXT})
    return Dataset.from_dict(columns, features=stored).cast_column("sound", Audio(sampling_rate=100))


def test_sounds_in_files_are_decoded_when_they_are_read(monkeypatch: pytest.MonkeyPatch):
    data = sounds_in_files(monkeypatch, {"array": np.ones(3), "sampling_rate": 100, "path": None})
    sound = ExampleDataset(data, {"audio": "sound", "text": "words"})[1]["audio"]
    assert sound["array"].tolist() == [1, 1, 1]
    assert sound["sampling_rate"] == 100


def test_a_sound_that_cannot_be_decoded_is_named_by_its_row(monkeypatch: pytest.MonkeyPatch):
    rows = ExampleDataset(sounds_in_files(monkeypatch, RuntimeError("no")), {"audio": "sound", "text": "words"})
    with pytest.raises(
        ValueError, match=r"The sound in row 2 of the dataset \(column 'sound'\) cannot be decoded: no\."
    ):
        rows[2]


def test_a_decoder_that_is_not_installed_is_not_the_fault_of_a_row(monkeypatch: pytest.MonkeyPatch):
    data = sounds_in_files(monkeypatch, ImportError("install torchcodec"))
    rows = ExampleDataset(data, {"audio": "sound", "text": "words"}, on_bad_row="skip")
    with pytest.raises(ImportError, match="torchcodec"):
        rows[2]


def test_images_of_a_list_are_read_and_drawn():
    photos = [[{"bytes": picture(color), "path": None} for color in ("red", "blue")]] * 3
    kinds = Features({"photos": List(Image()), "words": TEXT})
    data = Dataset.from_dict({"photos": photos, "words": ["a", "b", "c"]}, features=kinds)
    rows = ExampleDataset(data, {"image": "photos", "text": "words"}, pick={"image": "all"})
    assert len(rows) == 6
    means = [np.asarray(x["image"]).reshape(-1, 3).mean(axis=0).argmax() for x in rows.__getitems__(range(6))]
    assert means == [0, 2] * 3


# ---- Errors ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_row": "ignore"}, "`on_bad_row` must be 'raise' or 'skip', but got 'ignore'"),
        ({"pick": {"words": "all"}}, r"`pick` must be of the modalities \['image', .*, but got \['words'\]"),
        ({"hard_negatives": {"smell": "wrong"}}, r"`hard_negatives` must be of the modalities .* got \['smell'\]"),
        ({"id_column": "nr"}, "The dataset has no `id_column` 'nr'. Its columns"),
        ({"kinds": {"audio": "text"}}, "Column 'sound' of the dataset must hold captions"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_options_that_cannot_be_are_refused(options: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ExampleDataset(four_modalities(), COLUMNS, **options)


def test_a_column_of_unknown_kind_is_refused():
    data = four_modalities().add_column("number", list(range(12)))
    with pytest.raises(ValueError, match=r"Cannot tell what column 'number' of the dataset holds, .* `kinds`"):
        ExampleDataset(data, {"text": "words", "count": "number"})
