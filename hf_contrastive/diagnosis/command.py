"""`hf-contrastive diagnose`: a diagnosis in the terminal, as JSON, as a page and as pictures."""

import argparse
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers.utils import logging

from hf_contrastive.diagnosis.diagnosis import diagnose
from hf_contrastive.diagnosis.embedding import NUM_ROWS, DatasetOptions
from hf_contrastive.diagnosis.page import write_page_files
from hf_contrastive.diagnosis.result import Diagnosis, write_json
from hf_contrastive.diagnosis.table import as_text, finding_lines, labels, tables


EXAMPLES = """\
examples:
  hf-contrastive diagnose openai/clip-vit-base-patch32 --dataset your-org/captioned-images
  hf-contrastive diagnose outputs/clip_decoupled --compare openai/clip-vit-base-patch32
  hf-contrastive diagnose images.npy texts.npy --ids ids.txt
"""


def add_command(commands: Any) -> None:
    """Add the command to the parsers of the command line."""
    diagnose_ = commands.add_parser(
        "diagnose",
        help="Measure embeddings of a model or of files, and what can be done about their gap.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = diagnose_.add_argument
    add(
        "source",
        nargs="+",
        help="A dual encoder (Hub id or folder), or files of embeddings: .npy .npz .safetensors .parquet.",
    )
    add(
        "--compare",
        nargs="+",
        metavar="SOURCE",
        help="Another model, or its files in the same order, on the same rows.",
    )
    add("--output", default="diagnosis", help="Folder for what is written. Default: %(default)s.")
    add("--dataset", help="Hub id, folder, parquet/JSON/CSV/tar files or loader. By default the scenes.")
    add("--config", help="Configuration of the dataset.")
    add("--data_dir", help="Folder for a loader such as imagefolder.")
    add("--where", help="Embed only the rows where this boolean column is true.")
    add("--split", help="Split to embed. By default test, validation, or the rows that training holds out.")
    add("--image_column", default="image", help="Column of images. Default: %(default)s.")
    add("--text_column", help="Column of texts. By default the first of the usual names, such as caption.")
    add(
        "--columns",
        type=_columns,
        metavar="JSON",
        help='Columns of any modalities, such as \'{"query": "question"}\'. By default those of their names.',
    )
    add("--all_captions", action="store_true", help="Take every text of a list: the protocol of Flickr8k and COCO.")
    add("--id_column", help="Column that tells which rows show the same.")
    add("--ids", help="For files: a .txt, .npy or .parquet file that tells which rows show the same.")
    add("--num_rows", type=int, default=NUM_ROWS, help="Rows to measure at most. Default: %(default)s.")
    add("--batch_size", type=int, default=64, help="Rows to embed at a time. Default: %(default)s.")
    add("--device", help="Where the model runs. By default a GPU if there is one.")
    add("--cache_dir", help="Folder of embeddings that were computed before. By default in the cache of datasets.")
    add("--seed", type=int, default=0, help="Seed of all that is drawn. Default: %(default)s.")
    diagnose_.set_defaults(run=run)


def _columns(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(column, str) for column in found.values()):
        raise argparse.ArgumentTypeError(f"must be a JSON object of columns by modality, but got {text!r}")
    return found


def run(args: argparse.Namespace) -> None:
    """
    Measure, print and write what the arguments ask for.

    Raises:
        ValueError: They cannot be used.
        OSError: A file cannot be read.
    """
    known = {field.name for field in fields(DatasetOptions)} - {"dataset", "seed"}
    options = {name: value for name, value in vars(args).items() if name in known}
    logging.disable_progress_bar()
    # Before the work: a folder that cannot be written would lose it.
    check_can_write(args.output)
    diagnosis = diagnose(args.source, args.dataset, compare=args.compare, ids=args.ids, seed=args.seed, **options)
    show(diagnosis)
    try:
        written = write(diagnosis, args.output, command=args.command_line)
    except OSError as error:
        raise OSError(f"{args.output!r} could not be written: {error}") from error
    print(f"\nWritten to {args.output}: {', '.join(path.name for path in written)}")


def check_can_write(folder: str | Path) -> None:
    """Refuse a folder that cannot be made or written into, before the work and not after it.

    Raises:
        ValueError: It is a file, is in one, or may not be written.
    """
    folder = Path(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is a file" if not there.is_dir() else "may not be written by you"
        raise ValueError(f"`output` must be a folder to write into, but is {str(folder)!r}: {str(there)!r} {what}.")


def show(diagnosis: Diagnosis) -> None:
    """Print findings and tables."""
    print(f"{diagnosis.name}: {diagnosis.about}, width {diagnosis.width}")
    for label, one in zip(labels(diagnosis), diagnosis.all, strict=True):
        print(f"\nFindings: {label}\n" if diagnosis.compared else "\nFindings\n")
        print("\n".join(finding_lines(one)) or "None: no rule has anything to say.")
    for table in tables(diagnosis):
        print(f"\n{as_text(table)}")


def write(diagnosis: Diagnosis, folder: str | Path, *, command: str | None = None) -> list[Path]:
    """Write numbers, page and pictures into a folder, which is made if it is not there.

    Args:
        diagnosis: What to write.
        folder: Where.
        command: Command line that does it again, for the page.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "diagnosis.json"
    write_json(diagnosis, numbers)
    written = write_page_files(diagnosis, folder, command=command)
    for reason in written.missing:
        print(reason, file=sys.stderr)
    return [numbers, written.page, *written.pictures]
