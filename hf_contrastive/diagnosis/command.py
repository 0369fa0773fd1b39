"""`hf-contrastive diagnose`: a diagnosis in the terminal, as JSON, as a page and as pictures."""

import argparse
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_contrastive.diagnosis.options import DatasetOptions


if TYPE_CHECKING:
    from hf_contrastive.diagnosis.result import Diagnosis


DEFAULTS = DatasetOptions()
HELP = "Measure embeddings of a model or of files, and what can be done about their gap."
EXAMPLES = """\
examples:
  hf-contrastive diagnose openai/clip-vit-base-patch32 --dataset your-org/captioned-images
  hf-contrastive diagnose outputs/clip_decoupled --compare openai/clip-vit-base-patch32
  hf-contrastive diagnose images.npy texts.npy --ids ids.txt
"""


def add_command(commands: Any) -> None:
    """Add the command to the parsers of the command line."""
    parser = commands.add_parser(
        "diagnose",
        help=HELP,
        description=f"{HELP}\nFindings and tables are printed; a page, pictures and all numbers are written.",
        usage="%(prog)s SOURCE [SOURCE ...] [options]",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="A dual or multi encoder (Hub id or folder), or files of embeddings: .npy .npz .safetensors .parquet.",
    )
    add(
        "--compare",
        nargs="+",
        metavar="SOURCE",
        help="Another model, or files of its embeddings, for the same rows.",
    )
    add("--output", default="diagnosis", metavar="FOLDER", help="Where to write. Default: %(default)s.")
    add("--num_rows", type=int, default=DEFAULTS.num_rows, metavar="N", help="Rows at most. Default: %(default)s.")
    add("--seed", type=int, default=DEFAULTS.seed, metavar="N", help="Seed of all draws. Default: %(default)s.")

    add = parser.add_argument_group("what a model embeds").add_argument
    add("--dataset", help="Hub id, folder, parquet/JSON/CSV/tar files or loader. Default: the embedded scenes.")
    add("--config", metavar="NAME", help="Configuration of the dataset.")
    add("--data_dir", metavar="FOLDER", help="Folder for a loader such as imagefolder.")
    add("--split", metavar="NAME", help="Default: test, validation, or the rows that training holds out.")
    add("--where", metavar="COLUMN", help="Embed only the rows where this boolean column is true.")
    add("--image_column", default=DEFAULTS.image_column, metavar="COLUMN", help="Default: %(default)s.")
    add("--text_column", metavar="COLUMN", help="Default: the first of the usual names, such as caption.")
    add("--id_column", metavar="COLUMN", help="Rows of one id show the same. Default: each row is its own.")
    add(
        "--columns",
        type=_columns,
        metavar="JSON",
        help='Column of each modality, such as \'{"query": "question"}\'. Default: the one of its name.',
    )
    add(
        "--all_captions",
        action="store_true",
        help="Take every text of a list, the protocol of Flickr8k and COCO. Default: the first.",
    )

    add = parser.add_argument_group("how a model embeds it").add_argument
    add("--batch_size", type=int, default=DEFAULTS.batch_size, metavar="N", help="Rows at once. Default: %(default)s.")
    add("--device", help="Such as cuda:1 or cpu. Default: a GPU if there is one.")
    add("--cache_dir", metavar="FOLDER", help="Where embeddings are kept. Default: in the cache of datasets.")

    add = parser.add_argument_group("for files of embeddings").add_argument
    add("--ids", metavar="FILE", help="A .txt, .npy or .parquet file, an id for each row: rows of one show the same.")
    parser.set_defaults(run=run)


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
    # Before what is slow to load, and before the work: a folder that cannot be written would lose it.
    check_can_write(args.output)
    from transformers.utils import logging

    from hf_contrastive.diagnosis.diagnosis import diagnose

    known = {field.name for field in fields(DatasetOptions)} - {"dataset", "seed"}
    options = {name: value for name, value in vars(args).items() if name in known}
    logging.disable_progress_bar()
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


def show(diagnosis: "Diagnosis") -> None:
    """Print findings and tables."""
    from hf_contrastive.diagnosis.table import as_text, finding_lines, labels, tables

    print(f"{diagnosis.name}: {diagnosis.about}, width {diagnosis.width}")
    for label, one in zip(labels(diagnosis), diagnosis.all, strict=True):
        print(f"\nFindings: {label}\n" if diagnosis.compared else "\nFindings\n")
        print("\n".join(finding_lines(one)) or "None: no rule has anything to say.")
    for table in tables(diagnosis):
        print(f"\n{as_text(table)}")


def write(diagnosis: "Diagnosis", folder: str | Path, *, command: str | None = None) -> list[Path]:
    """Write numbers, page and pictures into a folder, which is made if it is not there.

    Args:
        diagnosis: What to write.
        folder: Where.
        command: Command line that does it again, for the page.

    Returns:
        The files.
    """
    from hf_contrastive.diagnosis.page import write_page_files
    from hf_contrastive.diagnosis.result import write_json

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "diagnosis.json"
    write_json(diagnosis, numbers)
    written = write_page_files(diagnosis, folder, command=command)
    for reason in written.missing:
        print(reason, file=sys.stderr)
    return [numbers, written.page, *written.pictures]
