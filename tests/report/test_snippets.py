"""Lines of code for a card."""

import pytest

from hf_contrastive.report.snippets import snippets, usage_snippet


@pytest.mark.parametrize("folder", ["it's", 'a "quoted" one', "back\\slash"])
def test_the_code_is_python_whatever_the_folder(folder: str):
    code = usage_snippet(folder)
    names = [constant for constant in compile(code, "card", "exec").co_consts if isinstance(constant, str)]
    assert folder in names


@pytest.mark.parametrize("zero_shot", [True, False])
def test_only_what_the_pipeline_runs_is_shown_with_it(zero_shot: bool):
    found = snippets("x", modalities=("image", "text"), zero_shot=zero_shot, plain=True)
    assert any("pipeline(" in code for _, code in found) == zero_shot


def test_other_modalities_are_loaded_with_our_class():
    ((_, code),) = snippets("x", modalities=("audio", "text"), zero_shot=False, plain=False)
    assert code.startswith("import hf_contrastive")
    compile(code, "card", "exec")
