"""A name for what a dataset holds, wherever it lies."""

from pathlib import Path

from datasets import Dataset, load_dataset

from hf_contrastive.data.fingerprint import fingerprint
from tests.conftest import make_pairs


def test_equal_rows_have_one_name_however_they_are_read(tmp_path: Path):
    rows = make_pairs(24)
    rows.to_parquet(str(tmp_path / "a.parquet"))
    read = load_dataset(
        "parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "c"), split="train"
    )
    assert fingerprint(read) == fingerprint(rows) == fingerprint(rows.with_format("torch"))
    assert fingerprint(rows.select(range(24)).flatten_indices()) == fingerprint(rows)
    assert fingerprint(rows.select_columns(["caption", "image"])) == fingerprint(rows)


def test_other_rows_have_another():
    rows = make_pairs(24)
    others = [rows.select(range(23)), rows.select([*range(23), 0]), rows.rename_column("caption", "text")]
    assert len({fingerprint(each) for each in [rows, *others]}) == 4


def test_of_many_rows_a_share_is_read():
    def rows(changed: int) -> Dataset:
        return Dataset.from_dict({"x": [-1 if row == changed else row for row in range(100)]})

    assert fingerprint(rows(50), num_rows=10) != fingerprint(rows(-1), num_rows=10)
    assert fingerprint(rows(51), num_rows=10) == fingerprint(rows(-1), num_rows=10)
