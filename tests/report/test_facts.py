"""Facts of a run for its card."""

from pathlib import Path

import pytest

from hf_contrastive.report.facts import Sharing, TrainingFacts, is_local


@pytest.mark.parametrize(
    ("name", "local"),
    [("openai/clip", False), ("./x", True), ("~/x", True), ("/x", True), ("C:\\x", True), ("embedded scenes", False)],
)
def test_places_of_this_machine(name: str, local: bool):
    assert is_local(name) is local


def test_a_file_is_called_by_its_name_alone(tmp_path: Path):
    facts = {"train_rows": 1, "base_model": None, "modalities": ("image", "text"), "model_type": "clip"}
    assert TrainingFacts(dataset=str(tmp_path / "a.parquet"), **facts).dataset_name == "a.parquet"  # type: ignore[arg-type]
    assert TrainingFacts(dataset=str(Path.home()), **facts).dataset_name == "local data"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"license": "Apache"}, "`license` is 'Apache', but must be one of"),
        ({"license": "other"}, "needs `license_name`"),
        ({"license_name": "mine"}, "belong to `license: other`"),
    ],
)
def test_a_wrong_licence_is_refused_at_once(options: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        Sharing(**options)  # type: ignore[arg-type]
