"""One model, without adapters, in each of the formats."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, PreTrainedModel

from hf_contrastive.export.checking import check_equal, reference_of
from hf_contrastive.export.comparing import check_same, embeds_of, examples_of
from hf_contrastive.export.errors import InexpressibleError
from hf_contrastive.export.graphs import write_graphs
from hf_contrastive.export.parts import Pair, Part, pair_of, parts_of
from hf_contrastive.export.plain import plain_model
from hf_contrastive.export.processors import plain_processor, plain_tokenizer, save_processor, text_arguments
from hf_contrastive.export.raw import inputs_of_raw, raw_values
from hf_contrastive.export.sentence import dense_layers, read_text_tower, write_pair, write_text_tower
from hf_contrastive.export.ways import Way, told
from hf_contrastive.models.multi_encoder import MultiEncoder


def possible_formats(model: Any, modalities: Sequence[str] | None = None) -> dict[str, str | None]:
    """
    What can express a model: None for a format that can, else the reason why not.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model, without adapters.
        modalities (`list[str]`, *optional*):
            Those that are meant, by default all.
    """
    found: dict[str, str | None] = {}
    writer = Writer(model, None, modalities)
    tried: dict[str, Callable[[], Any]] = {"transformers": writer.plain, "sentence-transformers": writer.text_part}
    for name, attempt in tried.items():
        try:
            attempt()
            found[name] = None
        except InexpressibleError as error:
            found[name] = str(error)
    return found | {"onnx": None} | ({"multi_encoder": None} if writer.own and modalities is None else {})


def other_ways(model: Any, modalities: Sequence[str] | None = None) -> list[Way]:
    """
    The ways in which a model can be written, those of a part of its modalities last.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model, without adapters.
        modalities (`list[str]`, *optional*):
            Those that are meant, by default all.
    """
    possible = possible_formats(model, modalities)
    found = [Way(format) for format, reason in possible.items() if reason is None]
    parts = Writer(model, None, modalities).parts
    texts = sorted({part.owner for part in parts.values() if part.kind == "text"} & set(parts))
    others = [name for name, part in parts.items() if part.kind in ("image", "audio")]
    smaller: dict[str, list[tuple[str, ...]]] = {
        "transformers": [(other, text) for other in others for text in texts] if len(parts) > 2 else [],
        "sentence-transformers": [(text,) for text in texts] if len(texts) > 1 else [],
    }
    for format, choices in smaller.items():
        if possible[format] is not None:
            found += [Way(format, some) for some in choices if possible_formats(model, some)[format] is None]
    return found


class Writer:
    """Writes one model, without adapters, into an empty folder."""

    def __init__(self, model: Any, processor: Any, modalities: Sequence[str] | None) -> None:
        self.own = isinstance(model, MultiEncoder)
        if modalities is not None and not self.own:
            raise ValueError(f"`modalities` is for a MultiEncoder, but the model is a {type(model).__name__}.")
        if processor is None and self.own and model.has_processor():
            processor = model.processor
        self.model, self.processor, self.modalities = model, processor, modalities
        self.parts = parts_of(model, modalities) if self.own else {}
        has = getattr(processor, "modalities", {})
        if self.own and processor is not None and (missing := sorted(set(self.parts) - set(has))):
            raise ValueError(
                f"`processor` must be a MultiEncoderProcessor for the modalities {model.modalities}, but got a "
                f"{type(processor).__name__} without {missing}. Make one with `MultiEncoderProcessor.for_model`."
            )

    def write(self, format: str, folder: Path) -> tuple[str, str | None]:
        """The format that was written, and why it is not the plain class that was tried."""
        try:
            if format in ("auto", "transformers"):
                self.write_plain(folder)
                return "transformers", None
            if format == "sentence-transformers":
                return self.write_sentence(folder), None
        except InexpressibleError as error:
            if format != "auto" or not self.own or self.modalities is not None:
                ways = ", ".join(map(str, other_ways(self.model, self.modalities)))
                raise InexpressibleError(f"{error} What can be written: {ways}.") from error
            self.write_own(folder)
            return "multi_encoder", str(error)
        if format == "onnx":
            write_graphs(self, folder)
        else:
            self.write_own(folder)
        return format, None

    def plain(self) -> tuple[PreTrainedModel, Pair | None]:
        """The model as a plain class of `transformers`, and from what towers, where it is none yet."""
        if not self.own:
            return self.model, None
        pair = pair_of(self.model, self.parts)
        precisions = {p.dtype for p in self.model.parameters()}
        return plain_model(pair, precisions.pop() if len(precisions) == 1 else torch.float32), pair

    def plain_processor(self, model: PreTrainedModel, pair: Pair | None) -> Any:
        """The processor for a plain class, None if there is none for the model."""
        if pair is None or self.processor is None:
            return self.processor
        text, other = (self.processor.modalities[part.modality] for part in (pair.text, pair.other))
        return plain_processor(type(model).__name__, other, text)

    def write_plain(self, folder: Path) -> None:
        model, pair = self.plain()
        processor = self.plain_processor(model, pair)
        model.save_pretrained(folder)
        if processor is not None:
            save_processor(processor, folder)
            if _has_pictures(model):
                padded = text_arguments(model.config.model_type)
                write_pair(model, folder, padded if padded["padding"] == "max_length" else {})
        found: Any = AutoModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", use_safetensors=True
        )
        if type(found) is not type(model):
            raise InexpressibleError(f"`AutoModel` loads a {type(model).__name__} as a {type(found).__name__}.")
        reference = reference_of(self.model)
        if pair is None:
            check_same(reference, found, found)
        else:
            saved = None if processor is None else AutoProcessor.from_pretrained(folder)
            self._check_pair(reference, found.eval(), pair, saved)

    def _check_pair(self, reference: Any, found: Any, pair: Pair, processor: Any) -> None:
        scales = [
            getattr(found, name) for name in ("logit_scale", "logit_scale_a", "logit_scale_t") if hasattr(found, name)
        ]
        for scale in scales:
            check_equal("`logit_scale`", torch.tensor(pair.logit_scale), scale.detach().squeeze())
        if hasattr(found, "logit_bias"):
            check_equal("`logit_bias`", torch.tensor(pair.logit_bias or 0.0), found.logit_bias.detach().squeeze())
        mine = {part.modality: part.kind for part in (pair.other, pair.text)}
        theirs: dict[str, dict[str, Any]] = {}
        ours = {m: given for m, given in examples_of(reference).items() if m in mine}
        for m, given in ours.items():
            bare = {
                own: given[called]
                for own in reference.inputs_of(m)
                if (called := reference.input_name(m, own)) in given
            }
            theirs[mine[m]] = bare
        self._compare(reference, ours, found, theirs, mine, "embeddings")
        if processor is not None:
            values = {part.modality: raw_values(part, self.processor) for part in (pair.other, pair.text)}
            raw = {m: self.processor.modalities[m].inputs(m, values[m]) for m in mine}
            arguments = text_arguments(found.config.model_type)
            made = {kind: inputs_of_raw(processor, kind, values[m], arguments) for m, kind in mine.items()}
            self._compare(reference, raw, found, made, mine, "embeddings of raw values")

    @staticmethod
    def _compare(reference: Any, ours: Any, found: Any, theirs: Any, names: dict[str, str], what: str) -> None:
        expected, given = embeds_of(reference, ours), embeds_of(found, theirs)
        for modality, kind in names.items():
            check_equal(f"The {modality} {what}", expected[modality], given[kind])

    def text_part(self) -> Part | None:
        """The one text tower, None where the model is a plain class that holds it."""
        if not self.own:
            if not _has_pictures(self.model):
                raise InexpressibleError(
                    f"SentenceTransformer takes a MultiEncoder's text tower, or a model of pictures and texts such as "
                    f"CLIPModel, but the model is a {type(self.model).__name__}."
                )
            return None
        texts = {part.owner: part for part in self.parts.values() if part.kind == "text"}
        if not texts:
            kinds = told({name: part.kind for name, part in self.parts.items()})
            raise InexpressibleError(f"SentenceTransformer takes a text tower, but there is none: {kinds}.")
        if len(texts) > 1:
            raise InexpressibleError(
                f"SentenceTransformer takes one text tower, but there are {len(texts)}: {sorted(texts)}. Name one in "
                "`modalities`."
            )
        part = next(iter(texts.values()))
        dense_layers(part)
        return part

    def write_sentence(self, folder: Path) -> str:
        part = self.text_part()
        if self.processor is None:
            raise ValueError("`format` 'sentence-transformers' needs the `processor`, whose tokenizer is written too.")
        if part is None:
            self.write_plain(folder)
            return "transformers"
        modality = self.processor.modalities[part.modality]
        write_text_tower(part, plain_tokenizer(modality), folder)
        reference = reference_of(self.model)
        texts = raw_values(part, self.processor)
        inputs = modality.inputs(part.modality, texts)
        expected = embeds_of(reference, {part.modality: inputs})[part.modality]
        check_equal("The embeddings of texts", expected, read_text_tower(folder, texts))
        return "sentence-transformers"

    def write_own(self, folder: Path) -> None:
        if not self.own:
            raise ValueError(f"`format` 'multi_encoder' is for a MultiEncoder, but got a {type(self.model).__name__}.")
        if self.modalities is not None:
            raise ValueError("`modalities` is for other formats: 'multi_encoder' holds all of them.")
        self.model.save_pretrained(folder)
        if self.processor is not None:
            # Another than the model's own may have been given.
            self.processor.save_pretrained(folder)
        found = MultiEncoder.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        check_same(reference_of(self.model), found, found)

    def kept(self, written: str) -> list[str] | None:
        """The modalities that were written in a format, None for all of the model's."""
        if not self.own:
            return None
        found = self.parts
        if written == "sentence-transformers" and (tower := self.text_part()) is not None:
            found = {m: part for m, part in parts_of(self.model).items() if part.owner == tower.owner}
        return None if len(found) == len(self.model.modalities) else list(found)


def _has_pictures(model: Any) -> bool:
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
