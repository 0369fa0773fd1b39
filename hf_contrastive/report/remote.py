"""A card that was edited on the Hub keeps its edits when the model is pushed again."""

import tempfile
from pathlib import Path

from hf_contrastive.report import front_matter
from hf_contrastive.report.card import update_card
from hf_contrastive.report.checking import CARD
from hf_contrastive.report.merging import RECORD


# Where a local card goes that differs from both; `hub.push_folder` leaves such names behind.
SPARE = "_README.local.md"


def keep_edits_on_hub(
    folder: str | Path, repo: str, *, token: str | None = None, revision: str | None = None
) -> tuple[str, ...]:
    """
    Bring what people wrote into the card of a repository into the folder's card, before this is pushed over it.

    Nothing is done where the repository has no card, or where the folder's was not generated here. If anything is kept
    in place of what the folder's card says, the latter stays in `_README.local.md`.

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
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    path = Path(folder) / CARD
    data = path.read_bytes() if path.is_file() else b""
    if not RECORD.search(data.decode(errors="replace")):
        return ()
    local = front_matter.decode(data)
    with tempfile.TemporaryDirectory() as fresh:
        # A folder of its own: of a Hub that does not answer, the cache would give an old card without a word.
        try:
            file = hf_hub_download(repo, CARD, revision=revision, token=token, local_dir=fresh)
        except (RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            return ()
        remote = Path(file).read_bytes()
    kept = update_card(folder, local, old=remote).kept
    if kept:
        path.with_name(SPARE).write_text(local, encoding="utf-8")
    return kept
