"""The command `hf-contrastive`."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from hf_contrastive import __version__
from hf_contrastive.diagnosis import command as diagnosis
from hf_contrastive.export import command as export
from hf_contrastive.hub import command as push


DESCRIPTION = "See and share dual and multi encoders of images, texts and other modalities."
EPILOG = (
    "hf-contrastive COMMAND --help shows options and examples. Training is a recipe: recipes/clip_decoupled.py --help."
)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="hf-contrastive", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=__version__, help="Show the version and exit.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in (diagnosis, export, push):
        command.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line, by default that of the process."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        parser.exit(2)
    # For what is written to say how it was made.
    args.command_line = shlex.join([parser.prog, *(sys.argv[1:] if argv is None else argv)])
    try:
        args.run(args)
    except (ValueError, OSError, ImportError) as error:
        # What the user gave cannot be used, as the message says; where in the code that was found helps nobody.
        parser.exit(2, f"hf-contrastive: {error}\n")
