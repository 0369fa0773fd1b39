"""A push that cannot work is refused before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from hf_contrastive import ContrastiveTrainingArguments
from hf_contrastive.hub import check_can_push


def arguments(folder: Path, **kwargs: Any) -> ContrastiveTrainingArguments:
    return ContrastiveTrainingArguments(str(folder), use_cpu=True, **kwargs)


@pytest.fixture
def logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.mark.usefixtures("logged_out")
def test_a_push_without_a_token_is_refused_before_training(tmp_path: Path):
    args = arguments(tmp_path, push_to_hub=True, hub_model_id="tester/model")
    with pytest.raises(ValueError, match=r"needs a token.*`hf auth login`.*HF_TOKEN.*Nothing was trained yet"):
        check_can_push(args)


@pytest.mark.usefixtures("logged_out")
def test_a_push_without_a_name_is_refused_before_training(tmp_path: Path):
    with pytest.raises(ValueError, match=r"needs `hub_model_id`, .* --hub_model_id me/my-encoder"):
        check_can_push(arguments(tmp_path, push_to_hub=True, hub_token="hf_mine"))


@pytest.mark.usefixtures("logged_out")
@pytest.mark.parametrize("name", ["not a name", "../outside", "tester/../../x", "a/b/c", "tester/.."])
def test_a_name_that_can_be_none_is_refused_before_training(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"`hub_model_id` is .* no name of a repository"):
        check_can_push(arguments(tmp_path, push_to_hub=True, hub_token="hf_mine", hub_model_id=name))


@pytest.mark.usefixtures("logged_out")
def test_a_token_from_any_place_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    check_can_push(arguments(tmp_path, push_to_hub=True, hub_model_id="tester/model", hub_token="hf_mine"))
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    check_can_push(arguments(tmp_path, push_to_hub=True, hub_model_id="tester/model"))


@pytest.mark.usefixtures("logged_out")
def test_nothing_is_needed_where_nothing_is_pushed(tmp_path: Path):
    check_can_push(arguments(tmp_path))
