"""A recipe's run of joined towers: which encoders, with which processors, on which columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from hf_contrastive.data.loading import ExampleSplits, load_examples
from hf_contrastive.losses import get_loss, uses_bias
from hf_contrastive.models.multi_encoder import MultiEncoder
from hf_contrastive.models.peculiarities import peculiarities_of
from hf_contrastive.models.processor import MultiEncoderProcessor
from hf_contrastive.models.processor_parts import kind_of
from hf_contrastive.recipe.arguments import read_option
from hf_contrastive.report.towers import longest_text


WIDTH = 512
# By option, a value to show.
EXAMPLES: dict[str, dict[str, Any]] = {
    "towers": {"image": "facebook/dinov2-small", "text": "answerdotai/ModernBERT-base", "product": 256},
    "processors": {"audio": "openai/whisper-tiny"},
    "columns": {"image": "photo", "text": "caption"},
    "shared": {"document": "query"},
    "pooling": {"text": "mean"},
    "head": {"text": "mlp"},
    "tower_kwargs": {"attn_implementation": "sdpa"},
}
# Options that one word may say for all towers.
OF_ALL = ("pooling", "head")
# What reads the raw values of each kind, and what to call it.
PROCESSORS: dict[str, tuple[Any, str]] = {
    "text": (AutoTokenizer, "tokenizer"),
    "image": (AutoImageProcessor, "image processor"),
    "audio": (AutoFeatureExtractor, "feature extractor"),
}


def _help(name: str, help: str) -> dict[str, str]:
    return {"help": f"{help}, as JSON: '{json.dumps(EXAMPLES[name])}'."}


@dataclass(frozen=True, kw_only=True)
class JoinedArguments:
    """
    Arguments of a run that joins towers, see [`MultiEncoder.from_towers`]. Mappings are JSON on the command line.

    Args:
        towers (`dict[str, str | int]`, *optional*):
            By modality, a Hub id or folder of an encoder, or the width of precomputed features.
        processors (`dict[str, str]`, *optional*):
            By modality, a Hub id or folder of a processor. By default that of the tower.
        columns (`dict[str, str]`, *optional*):
            By modality, the column of the dataset.
        shared (`dict[str, str]`, *optional*):
            Modalities that use the tower and head of another.
        width (`int`, *optional*):
            Width of the joint space, by default 512.
        pooling (`str` or `dict[str, str]`, *optional*):
            Of all towers or by modality. By default found from each architecture.
        head (`str` or `dict[str, str]`, *optional*, defaults to `"linear"`):
            Likewise.
        scale_per_pair (`bool`, *optional*, defaults to `False`):
            Whether each pair of modalities has a temperature of its own.
        tower_kwargs (`dict[str, Any]`, *optional*):
            Further arguments of `from_pretrained` of the towers.
        max_length (`int`, *optional*):
            Longest text in tokens. By default what tower and tokenizer take.

    Raises:
        ValueError: An option is no mapping, is for a modality that there is not, or there are no towers for it.
    """

    towers: dict[str, Any] | str | None = field(
        default=None,
        metadata=_help(
            "towers", "Encoders to join: by modality a Hub id, a folder, or the width of precomputed features"
        ),
    )
    processors: dict[str, str] | str | None = field(
        default=None, metadata=_help("processors", "With --towers: processors that do not lie beside their towers")
    )
    columns: dict[str, str] | str | None = field(
        default=None, metadata=_help("columns", "With --towers: columns that are not called as their modality")
    )
    shared: dict[str, str] | str | None = field(
        default=None, metadata=_help("shared", "With --towers: further modalities, and whose tower and head they use")
    )
    width: int | None = field(
        default=None,
        metadata={
            "help": f"With --towers: width of the joint space, by default {WIDTH}. Small model: width of both towers, a "
            "multiple of 32, by default 128."
        },
    )
    pooling: dict[str, str] | str | None = field(
        default=None, metadata=_help("pooling", "With --towers: cls, mean, last, attention or pooler; for one alone")
    )
    head: dict[str, str] | str | None = field(
        default="linear", metadata=_help("head", "With --towers: linear, mlp or none; for one alone")
    )
    scale_per_pair: bool = field(
        default=False, metadata={"help": "With --towers: a temperature of its own for each pair of modalities."}
    )
    tower_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata=_help("tower_kwargs", "With --towers: further arguments of their `from_pretrained`")
    )
    max_length: int | None = field(
        default=None,
        metadata={"help": "With --towers: longest text in tokens, by default what tower and tokenizer take."},
    )

    def __post_init__(self) -> None:
        for name, example in EXAMPLES.items():
            given = getattr(self, name)
            if name not in OF_ALL or (isinstance(given, str) and given.lstrip().startswith("{")):
                object.__setattr__(self, name, read_option(given, name, example))
        if self.towers is None:
            own = {x.name: x.default for x in fields(JoinedArguments) if x.name != "width"}
            if given := [name for name, default in own.items() if getattr(self, name) != default]:
                raise ValueError(f"`{given[0]}` is for towers that are joined: name these with `towers`.")
            return
        for name in ("columns", "processors"):
            if unknown := sorted(set(mapping_of(getattr(self, name))) - set(self.modalities)):
                raise ValueError(f"`{name}` is for {unknown}, but the modalities are {self.modalities}.")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"`max_length` must be at least 1 token, but got {self.max_length}.")

    @property
    def modalities(self) -> list[str]:
        """Names of the joined modalities, in alphabetical order."""
        return sorted({**mapping_of(self.towers), **mapping_of(self.shared)})


def mapping_of(option: Any) -> dict[str, Any]:
    """An option that is a mapping or not given, as a mapping."""
    return dict(option or {})


def join_towers(recipe: JoinedArguments, args: TrainingArguments) -> tuple[MultiEncoder, MultiEncoderProcessor]:
    """
    The model that a recipe asks for, in single precision, and its processor; the same at every call.

    Seed and loss are those of the run's `args`. For a loss that uses a bias, the model has one.

    Raises:
        FileNotFoundError: A tower or processor is a path where there is nothing.
        ValueError: A tower has no processor, or cannot be joined.
    """
    towers = {m: _place("towers", m, source) for m, source in mapping_of(recipe.towers).items()}
    given = {m: _place("processors", m, source) for m, source in mapping_of(recipe.processors).items()}
    if wrong := sorted(m for m in given if type(towers.get(m)) is int):
        raise ValueError(f"`processors` has one for {wrong[0]!r}, whose features are precomputed and need none.")
    set_seed(args.seed)
    has_bias = uses_bias(get_loss(args.loss, **(args.loss_kwargs or {})))
    try:
        model = MultiEncoder.from_towers(
            towers,
            width=WIDTH if recipe.width is None else recipe.width,
            pooling=recipe.pooling,
            head=recipe.head or "linear",
            shared=mapping_of(recipe.shared),
            # Files may hold half precision, in which most steps of an optimizer change nothing.
            dtype=torch.float32,
            tower_kwargs=mapping_of(recipe.tower_kwargs),
            scale_per_pair=recipe.scale_per_pair,
            logit_bias_init_value=0.0 if has_bias else None,
        )
    except OSError as error:
        raise OSError(f"Of the towers {towers}, one could not be loaded: {error}") from error
    sources = {m: source for m, source in towers.items() if type(source) is not int} | given
    processors = {m: _load_processor(model, m, source, recipe.max_length) for m, source in sources.items()}
    model.processor = MultiEncoderProcessor.for_model(model, processors)
    return model, model.processor


def load_joined_data(
    recipe: JoinedArguments,
    processor: MultiEncoderProcessor,
    dataset: str | None,
    *,
    usual: Mapping[str, str | None],
    **source: Any,
) -> ExampleSplits:
    """
    The data of a run of joined towers, read as its processor takes them: kinds, and samples a second of sounds.

    Columns that the recipe does not name are the `usual` ones, or called as their modality. Further arguments are those
    of [`load_examples`].
    """
    kinds = {m: str(part.kind) for m, part in processor.modalities.items()}
    columns = {m: usual.get(m, m) for m in kinds} | mapping_of(recipe.columns)
    rates = {m: processor.sampling_rate(m) for m, kind in kinds.items() if kind == "audio"}
    return load_examples(dataset, columns, kinds=kinds, sampling_rates=rates, **source)


def _place(option: str, modality: str, source: Any) -> Any:
    """A Hub id, a folder that is there, or a width."""
    if type(source) is int:
        return source
    if not isinstance(source, str) or source.isdecimal():
        raise ValueError(
            f"`{option}` must give a Hub id or folder for {modality!r}{', or a width' * (option == 'towers')}, but got "
            f"{source!r}."
        )
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().exists():
        raise FileNotFoundError(f"`{option}` has the path {source!r} for {modality!r}, where there is nothing.")
    return str(Path(source).expanduser()) if source.startswith("~") else source


def _load_processor(model: MultiEncoder, modality: str, source: str, max_length: int | None) -> Any:
    """The tokenizer, image processor or feature extractor of a tower, which cuts texts as the tower must have them."""
    loader, noun = PROCESSORS[kind_of(model.inputs_of(modality))]
    try:
        processor = loader.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{source!r} holds no {noun} for the {modality} tower ({str(error).partition(chr(10))[0]}). Name a Hub id or folder "
            f"that does: `processors`, such as '{json.dumps({modality: 'google-bert/bert-base-uncased'})}'."
        ) from error
    if not isinstance(processor, PreTrainedTokenizerBase):
        return processor
    if processor.pad_token is None:
        # Masked in any case; tokenizers of decoders have none.
        processor.pad_token = processor.eos_token
    modalities = model.config.modalities
    config = modalities[modalities[modality].shared_with or modality].tower
    if max_length is not None and peculiarities_of(config).is_padded:
        raise ValueError(
            f"`max_length` is {max_length}, but the {modality} tower, a SigLIP, reads texts of one length."
        )
    limits = [n for n in (processor.model_max_length, longest_text(config), max_length) if n is not None]
    processor.model_max_length = min(limits)
    return processor
