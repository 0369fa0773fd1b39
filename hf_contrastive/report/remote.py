"""A card that was edited on the Hub keeps its edits when the model is pushed again."""

import tempfile
from pathlib import Path

from transformers.utils import logging

from hf_contrastive.report import front_matter
from hf_contrastive.report.card import set_aside, update_card
from hf_contrastive.report.drafts import RECORD, is_draft
from hf_contrastive.report.merging import edited_sections
from hf_contrastive.report.names import CARD


logger = logging.get_logger(__name__)

# Where a local card goes that differs from both, or one of the Hub that is replaced; pushes leave such names behind.
SPARE = "_README.local.md"
REPLACED = "_README.hub.md"


def keep_edits_on_hub(
    folder: str | Path,
    repo: str,
    *,
    token: str | None = None,
    revision: str | None = None,
) -> tuple[str, ...]:
    """
    Bring what people wrote into the card of a repository into the folder's card, before this is pushed over it.

    Nothing is done where the repository has no card. Where the folder's was not generated here, it can not be merged: a
    draft gives way to the card of the repository, and a card by hand replaces it. Whatever is not pushed stays beside the
    card, the folder's as `_README.local.md` and the repository's as `_README.hub.md`, and a warning says so.

    Args:
        folder (`str` or `Path`):
            Folder of the model.
        repo (`str`):
            Repository of the model.
        token (`str`, *optional*):
            Token that may read it.
        revision (`str`, *optional*):
            Branch that is pushed to.

    Returns:
        `tuple[str, ...]`: What was kept though it differs from what the folder said, a sentence each.

    Raises:
        huggingface_hub.errors.HfHubHTTPError: The card could not be read, so that a push might lose edits.
        ValueError: The folder's card is not in UTF-8.
    """
    path = Path(folder) / CARD
    data = _card_of(repo, token, revision) if path.is_file() else None
    if data is None or data == path.read_bytes():
        return ()
    local, remote = front_matter.decode(path.read_bytes()), data.decode("utf-8-sig", errors="replace")
    if RECORD.search(local):
        kept = update_card(folder, local, old=data).kept
        if not kept:
            return ()
        beside = set_aside(path, SPARE, local.encode())
        mine, theirs = edited_sections(local), edited_sections(remote)
        if both := sorted(name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]):
            told = (
                f"{CARD}: {', '.join(both)} was edited here and in {repo!r}. The text of the latter is kept and pushed, "
                f"that of here is in {str(beside)!r}."
            )
            logger.warning(told)
            kept = (*kept, told)
        return kept
    if is_draft(local):
        if is_draft(remote):
            return ()
        path.write_bytes(data)
        told = f"{CARD} of {repo!r} is kept, for it was edited. The draft is in {str(set_aside(path, SPARE, local.encode()))!r}."
    elif is_draft(remote):
        return ()
    else:
        told = (
            f"{CARD} was not generated here and replaces that of {repo!r}, which is another. The latter is in "
            f"{str(set_aside(path, REPLACED, data))!r}."
        )
    logger.warning(told)
    return (told,)


def _card_of(repo: str, token: str | None, revision: str | None) -> bytes | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    with tempfile.TemporaryDirectory() as fresh:
        # A folder of its own: of a Hub that does not answer, the cache would give an old card without a word.
        try:
            file = hf_hub_download(repo, CARD, revision=revision, token=token, local_dir=fresh)
        except (RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            return None
        return Path(file).read_bytes()
