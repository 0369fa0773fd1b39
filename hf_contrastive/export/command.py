"""`hf-contrastive export`: a trained model in a folder that others can load."""

import argparse
from typing import Any

from transformers import AutoModel
from transformers.utils import logging


EXAMPLES = """\
examples:
  hf-contrastive export outputs/joined plain
  hf-contrastive export outputs/joined texts --format sentence-transformers
  hf-contrastive export outputs/joined files --format onnx
  hf-contrastive export outputs/lora merged --base openai/clip-vit-base-patch32 --merge
"""


def add_command(commands: Any) -> None:
    """Add the command to the parsers of the command line."""
    parser = commands.add_parser(
        "export",
        help="Write a trained model so that people without this package can load it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="A dual or multi encoder, or an adapter: Hub id or folder.")
    add("folder", help="Where to write.")
    add(
        "--format",
        default="auto",
        help="auto, transformers, sentence-transformers, onnx, multi_encoder or adapter. Default: %(default)s.",
    )
    add("--modalities", nargs="+", metavar="NAME", help="Modalities to write. By default all.")
    add("--base", help="For an adapter: the model that it was trained on.")
    add("--merge", action="store_true", help="Merge the adapter into the weights.")
    add("--overwrite", action="store_true", help="Replace a folder that holds a model.")
    add("--name", metavar="HUB_ID", help="Hub id that the lines in the card load. By default the folder.")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Write what the arguments ask for and say what it is.

    Raises:
        ValueError: They cannot be used.
        OSError: The model is not there, or the folder is.
    """
    from hf_contrastive.export.exporting import export
    from hf_contrastive.models.loading import load_dual_encoder
    from hf_contrastive.models.multi_encoder import MultiEncoder
    from hf_contrastive.training.adapters import load_adapter

    logging.disable_progress_bar()
    source = args.base or args.model
    model, processor = AutoModel.from_pretrained(source, trust_remote_code=False, use_safetensors=True), None
    if not isinstance(model, MultiEncoder):
        model, processor = load_dual_encoder(source, use_safetensors=True)
    if args.base is not None:
        model = load_adapter(model, args.model)
    exported = export(
        model,
        processor,
        args.folder,
        args.format,
        modalities=args.modalities,
        merge=args.merge,
        overwrite=args.overwrite,
        name=args.name,
        card=args.model,
    )
    print(f"Written as {exported.format}: {exported.folder}")
    if exported.reason is not None:
        print(f"It needs hf-contrastive, because no class of transformers computes the same: {exported.reason}")
    print(f"\n{exported.metadata.snippet}")
