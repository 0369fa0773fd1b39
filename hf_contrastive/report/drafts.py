"""Cards that programs wrote and nobody touched: what is generated may replace them."""

import re
from pathlib import Path

from hf_contrastive.report import front_matter
from hf_contrastive.report.names import CARD


# Wherever it stands in a generated card: people write on below it.
RECORD = re.compile(r"\n*<!-- hf_contrastive record: (?P<json>\{.*\}) -->[ \t]*\n?")
# What the Trainer writes for a card that it asks to be replaced.
PLACEHOLDER = (
    "This model card has been generated automatically according to the information the Trainer had access to."
)


def is_draft(card: str) -> bool:
    """
    Whether a card says that the Trainer wrote it, or is the template of `huggingface_hub` with the version that `peft` adds.

    >>> is_draft("# My model")
    False
    """
    from huggingface_hub import ModelCard, ModelCardData

    if PLACEHOLDER in " ".join(card.split()):
        return True
    if "[More Information Needed]" not in card:
        return False
    template: str = ModelCard.from_template(ModelCardData()).text
    return front_matter.split(card)[1].partition("### Framework versions\n\n- PEFT")[0].split() == template.split()


def is_generated(folder: str | Path) -> bool:
    """Whether a folder has no card, a draft, or one that was generated here, whose edited sections will stay."""
    card = Path(folder) / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else None
    return text is None or is_draft(text) or bool(RECORD.search(text))
