"""Which cards are drafts that nobody has touched."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from hf_contrastive.report.drafts import is_draft, is_generated
from tests.report.test_merging import make_card


EMPTY = str(ModelCard.from_template(ModelCardData(library_name="peft")))
TRAINER = (
    "<!-- This model card has been generated automatically according to the information the Trainer had access to. You\n"
    "should probably proofread and complete it, then remove this comment. -->\n"
)


@pytest.mark.parametrize("card", [EMPTY, EMPTY + "\n### Framework versions\n\n- PEFT 0.21.0", TRAINER + "# x\n"])
def test_what_a_program_wrote_is_a_draft(card: str):
    assert is_draft(card)


@pytest.mark.parametrize(
    "card", ["", "# x\n", make_card({"intro": "# x"}), EMPTY.replace("[More Information Needed]", "Me", 1)]
)
def test_what_somebody_wrote_is_none(card: str):
    assert not is_draft(card)


def test_a_folder_without_a_card_waits_for_one(tmp_path: Path):
    assert is_generated(tmp_path)
    (tmp_path / "README.md").write_text("# mine")
    assert not is_generated(tmp_path)
