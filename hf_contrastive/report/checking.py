"""Whether a folder's card may be shared, told before anything is uploaded."""

import re
from pathlib import Path

import yaml

from hf_contrastive.report import front_matter
from hf_contrastive.report.eval_results import EVAL_RESULTS, eval_result_faults
from hf_contrastive.report.hub_schema import metadata_faults
from hf_contrastive.report.names import CARD
from hf_contrastive.report.privacy import privacy_faults


# A text file of a repository, of which a card must be one.
LARGEST = 10 << 20
# What is shown in a card: the file or address of a picture.
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def check_card(folder: str | Path) -> None:
    """
    Refuse to share a folder whose card the Hub would refuse, or that tells what it must not.

    Metadata, files that the card shows and `.eval_results` are checked here, before anything is uploaded.

    Args:
        folder (`str` or `Path`):
            Folder of the model.

    Raises:
        ValueError: The message names each field, what it is and what is allowed.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise ValueError(f"There is no {CARD} in {str(folder)!r}.")
    data, text, faults = path.read_bytes(), "", []
    if len(data) > LARGEST:
        faults.append(f"It has {len(data) >> 20} MiB, of which the Hub takes {LARGEST >> 20}. Put pictures beside it.")
    try:
        text = front_matter.decode(data)
        front, _ = front_matter.split(text)
        faults += metadata_faults(front_matter.load(front)) if front else ["It has no metadata at its top."]
    except ValueError as error:
        faults.append(str(error))
    _, body = front_matter.split(text)
    for shown in PICTURE.findall(body):
        if "://" not in shown and not (Path(folder) / shown).is_file():
            faults.append(f"It shows {shown!r}, which is no file of the folder.")
    faults += privacy_faults(text)
    for file in sorted((Path(folder) / EVAL_RESULTS).glob("*.yaml")):
        try:
            found = eval_result_faults(yaml.safe_load(front_matter.decode(file.read_bytes())))
        except (ValueError, yaml.YAMLError) as error:
            found = [f"It cannot be read: {error}"]
        faults += [f"{EVAL_RESULTS}/{file.name}: {fault}" for fault in found]
    if faults:
        raise ValueError(f"The card {path} cannot be shared as it is:\n" + "\n".join(f"- {fault}" for fault in faults))
