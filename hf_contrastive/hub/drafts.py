"""Whether a card is a draft that a program wrote and nobody has touched."""

from pathlib import Path


def is_drafted(folder: str | Path) -> bool:
    """Whether a folder has no card, or one of the Trainer or of `peft` that asks to be replaced."""
    card = Path(folder) / "README.md"
    return not card.is_file() or is_draft(card.read_text(encoding="utf-8"))


def is_draft(card: str) -> bool:
    """
    Whether a card says that the Trainer wrote it, or is the empty template of `huggingface_hub` that `peft` writes.

    >>> is_draft("# My model")
    False
    """
    from huggingface_hub import ModelCard, ModelCardData

    from hf_contrastive.report import front_matter
    from hf_contrastive.report.merging import PLACEHOLDER

    if PLACEHOLDER in " ".join(card.split()):
        return True
    empty = ModelCard.from_template(ModelCardData()).text.strip()
    return front_matter.split(card)[1].strip().startswith(empty)
