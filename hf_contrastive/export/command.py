"""`hf-contrastive export`: a trained model in a folder that others can load."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from hf_contrastive.export.errors import DifferentExportError
from hf_contrastive.export.folders import check_apart, check_folder
from hf_contrastive.export.formats import FORMATS
from hf_contrastive.report.hub_schema import is_repo_id


HELP = "Write a trained model so that people without this package can load it."
FORMATS_AND_EXAMPLES = """\
formats:
  transformers           CLIPModel, SiglipModel, VisionTextDualEncoderModel or ClapModel
  sentence-transformers  a text tower, or images and texts, for SentenceTransformer
  onnx                   a file for each modality, such as onnx/text_model.onnx
  multi_encoder          joined towers as they are, for people with this package
  adapter                the adapter alone
  auto                   adapter for an adapter, else transformers, else multi_encoder

examples:
  hf-contrastive export outputs/joined plain
  hf-contrastive export outputs/joined plain --name your-name/your-encoder
  hf-contrastive export outputs/joined texts --format sentence-transformers --modalities text
  hf-contrastive export outputs/joined files --format onnx
  hf-contrastive export outputs/lora merged --base openai/clip-vit-base-patch32 --merge
"""


def add_command(commands: Any) -> None:
    """Add the command to the parsers of the command line."""
    parser = commands.add_parser(
        "export",
        help=HELP,
        description=f"{HELP}\nWhat is written is loaded again and compared with the model.",
        usage="%(prog)s MODEL FOLDER [options]",
        epilog=FORMATS_AND_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="A dual or multi encoder, or an adapter: Hub id or folder.")
    add("folder", metavar="FOLDER", help="Where to write.")
    add("--format", default="auto", choices=FORMATS, metavar="NAME", help="One of those below. Default: %(default)s.")
    add("--modalities", nargs="+", metavar="NAME", help="Modalities to write. Default: all.")
    add("--base", metavar="MODEL", help="For an adapter: the model that it was trained on.")
    add("--merge", action="store_true", help="For an adapter: merge it into the weights.")
    add("--overwrite", action="store_true", help="Replace a folder that holds a model and nothing else.")
    add("--name", metavar="HUB_ID", help="Hub id that the lines in the card load. Default: the folder.")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Write what the arguments ask for and say what it is.

    Raises:
        ValueError: They cannot be used.
        OSError: The model is not there, or the folder is.
    """
    _check(args)
    from safetensors import SafetensorError

    try:
        _run(args)
    except SafetensorError as error:
        # Weights that were cut off, or a full disk.
        raise OSError(f"Weights cannot be read or written: {error}. Nothing was written.") from error
    except DifferentExportError as error:
        raise ValueError(str(error)) from error


def _run(args: argparse.Namespace) -> None:
    from transformers import AutoConfig
    from transformers.utils import cached_file, logging

    from hf_contrastive.export.exporting import export
    from hf_contrastive.models.configuration import MultiEncoderConfig
    from hf_contrastive.models.loading import load_dual_encoder
    from hf_contrastive.models.multi_encoder import MultiEncoder
    from hf_contrastive.training.adapters import load_adapter

    logging.disable_progress_bar()
    trained = _place(args.model)
    source = trained if args.base is None else _place(args.base)
    is_adapter = cached_file(trained, "adapter_config.json", _raise_exceptions_for_missing_entries=False) is not None
    if args.base is None and is_adapter:
        # `transformers` would load it on its model, without temperature and bias.
        raise ValueError(f"{source!r} is an adapter: `--base` must name the model that it was trained on.")
    if args.base is not None and not is_adapter:
        raise ValueError(f"{trained!r} is no adapter, so it has no `--base`: there is no adapter_config.json.")
    model: Any
    if isinstance(AutoConfig.from_pretrained(source, trust_remote_code=False), MultiEncoderConfig):
        # It may be without a processor.
        model, processor = MultiEncoder.from_pretrained(source), None
    else:
        model, processor = load_dual_encoder(source, dtype="auto")
    if args.base is not None:
        model = load_adapter(model, trained)
    exported = export(
        model,
        processor,
        args.folder,
        args.format,
        modalities=args.modalities,
        merge=args.merge,
        overwrite=args.overwrite,
        name=args.name,
        card=trained,
    )
    print(f"Written as {exported.format}: {exported.folder}")
    if exported.reason is not None:
        print(f"It needs hf-contrastive, because no class of transformers computes the same: {exported.reason}")
        print("\nWhat others can load without it:\n")
        for way in exported.others:
            place = "_".join([str(exported.folder), *(way.modalities or [way.format])])
            of = [] if args.base is None else ["--base", args.base, "--merge"]
            print(f"  {shlex.join(['hf-contrastive', 'export', args.model, place, *way.options, *of])}")
    print(f"\n{exported.metadata.snippet}")
    if args.name is not None:
        print(f"\nTo push it:\n\n{shlex.join(['hf-contrastive', 'push', str(exported.folder), args.name])}")


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be, before a model is loaded."""
    for name in (args.base, args.model):
        if name is None or (path := Path(name).expanduser()).is_dir():
            continue
        if path.exists() or not is_repo_id(name):
            raise FileNotFoundError(f"{name!r} is neither a folder that is there nor a Hub id.")
    if args.name is not None and not is_repo_id(args.name):
        raise ValueError(f"`--name` must be a Hub id such as your-name/your-encoder, but got {args.name!r}.")
    if args.base is None and (args.merge or args.format == "adapter"):
        raise ValueError("`--merge` and `--format adapter` are for an adapter, whose model `--base` names.")
    for name in (args.base, args.model):
        check_apart(name, Path(args.folder))
    check_folder(Path(args.folder).expanduser(), args.overwrite)


def _place(name: str) -> str:
    path = Path(name).expanduser()
    return str(path) if path.is_dir() else name
