"""Facts of a run for its card."""

from pathlib import Path

import pytest

from hf_contrastive.report.facts import Sharing, TrainingFacts
from hf_contrastive.report.names import is_local


@pytest.mark.parametrize(
    ("name", "local"),
    [("openai/clip", False), ("./x", True), ("~/x", True), ("/x", True), ("C:\\x", True), ("embedded scenes", False)],
)
def test_places_of_this_machine(name: str, local: bool):
    assert is_local(name) is local


def of_data(*datasets: str) -> TrainingFacts:
    return TrainingFacts(
        dataset=datasets[0] if len(datasets) == 1 else datasets,
        train_rows=1,
        base_model=None,
        modalities=("image", "text"),
        model_type="clip",
    )


def test_a_file_is_called_by_its_name_alone(tmp_path: Path):
    assert of_data(str(tmp_path / "a.parquet")).dataset_name == "a.parquet"
    assert of_data(str(Path.home())).dataset_name == "local data"


def test_a_name_without_an_owner_is_no_dataset_of_the_hub():
    # It may be what somebody calls his data.
    assert of_data("scenes").hub_datasets == []
    assert of_data("me/scenes").hub_datasets == ["me/scenes"]


def test_several_datasets_are_all_named(tmp_path: Path):
    mixed = of_data("me/scenes", str(tmp_path / "a.parquet"), "you/pictures")
    assert mixed.dataset_name == "me/scenes and a.parquet and you/pictures"
    assert mixed.hub_datasets == ["me/scenes", "you/pictures"]
    # No one of them is what was measured on.
    assert mixed.hub_dataset is None


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
