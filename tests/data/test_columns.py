import pytest
from datasets import Dataset

from hf_contrastive.data import PairDataset
from hf_contrastive.data.columns import column_values
from tests.conftest import make_pairs


def test_columns_of_datasets_and_of_pairs():
    pairs = make_pairs(4).add_column("product", [1, 1, 2, 3])
    assert column_values(pairs, "product") == [1, 1, 2, 3]
    assert column_values(pairs.with_format("torch"), "product") == [1, 1, 2, 3]
    assert column_values(PairDataset(pairs, id_column="product"), "id") == [1, 1, 2, 3]
    assert column_values(PairDataset(pairs), "text") == pairs["caption"][:]


def test_a_missing_column_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"no column 'product'. Its columns: \['a'\]"):
        column_values(Dataset.from_dict({"a": [1]}), "product")
    with pytest.raises(ValueError, match=r"have no 'id' to tell rows apart, but \['text'\]"):
        column_values(PairDataset(make_pairs(2)), "id")


def test_a_dataset_without_columns_is_named():
    with pytest.raises(ValueError, match="column 'a' are needed, which a list cannot give"):
        column_values([1], "a")
