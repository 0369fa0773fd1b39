"""One processor for all modalities of a model, in one folder."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

# Not from `transformers`: this module is loaded while that is, see auto.py.
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import PROCESSOR_NAME, cached_file

from hf_contrastive.models.configuration import check_name
from hf_contrastive.models.processor_parts import LOADERS, as_list, modality_for, places


_HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class MultiEncoderProcessor(ProcessorMixin):
    """
    Tokenizers, image processors and feature extractors by modality, which make the inputs that a model takes.

    A [`ContrastiveCollator`] takes it as its `processor`.

    Example:
    ```python
    processor = MultiEncoderProcessor.for_model(model, {"image": "facebook/dinov2-small", "text": tokenizer})
    processor(images=[image], text=["a cat"])  # pixel_values, input_ids, attention_mask
    ```

    Args:
        modalities (`dict[str, Modality]`):
            How the values of each modality become inputs, see [`Modality`].

    Raises:
        ValueError: A modality has a name that cannot be one, or a transform, which cannot be saved.
    """

    def __init__(self, modalities: Mapping[str, Any]) -> None:
        for name, modality in modalities.items():
            check_name(name)
            if modality.transform is not None:
                raise ValueError(
                    f"The modality {name!r} has a `transform`, which cannot be saved: give it to the collator."
                )
        self.modalities = {name: modalities[name] for name in sorted(modalities)}
        self.chat_template = None

    @classmethod
    def for_model(
        cls, model: Any, processors: Mapping[str, Any], **options: Mapping[str, Any]
    ) -> "MultiEncoderProcessor":
        """
        A processor whose outputs are the inputs of a model.

        Args:
            model ([`MultiEncoder`]):
                The model.
            processors (`dict[str, Any]`):
                By modality, a tokenizer, image processor or feature extractor, or the Hub id or folder of one. Precomputed
                features need none.
            options (`dict[str, dict]`):
                By modality, arguments of its processor. By default those with which nothing depends on the rest of a batch.

        Raises:
            ValueError: A modality is none of the model's, or needs a processor and has none.
        """
        if unknown := sorted({*processors, *options} - set(model.modalities)):
            raise ValueError(f"`processors` are for {unknown}, but the model has {model.modalities}.")
        return cls({name: modality_for(model, name, processors, options) for name in model.modalities})

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        audio: Any = None,
        *,
        return_tensors: str = "pt",
        padding: Any = None,
        truncation: Any = None,
        max_length: int | None = None,
        **values: Any,
    ) -> BatchFeature:
        """
        Inputs of the model.

        Args:
            images (`list`, *optional*):
                Pictures. A single value, here and below, is a batch of one.
            text (`list`, *optional*):
                Texts.
            audio (`list`, *optional*):
                Sounds, `{"array": ..., "sampling_rate": ...}`.
            return_tensors (`str`, *optional*, defaults to `"pt"`):
                Nothing else is made.
            padding (`bool` or `str`, *optional*):
                For all texts, as the next two, instead of what the processor has stored.
            truncation (`bool` or `str`, *optional*):
                Whether long texts are cut.
            max_length (`int`, *optional*):
                Tokens of the longest text.
            values (`dict[str, list]`):
                Values of any modality, by its name.
        """
        if return_tensors != "pt":
            raise ValueError(f"`return_tensors` must be 'pt', but got {return_tensors!r}.")
        given = {"image": images, "text": text, "audio": audio}
        given = {m: x for m, x in given.items() if x is not None} | values
        if unknown := sorted(set(given) - set(self.modalities)):
            raise ValueError(f"The processor is for the modalities {list(self.modalities)}, but got {unknown}.")
        asked = {"padding": padding, "truncation": truncation, "max_length": max_length}
        asked = {name: x for name, x in asked.items() if x is not None}
        found: dict[str, Tensor] = {}
        for name, x in given.items():
            found |= self._modality(name, asked).inputs(name, as_list(self.modalities[name].kind, x))
        return BatchFeature(found)

    def sampling_rate(self, name: str) -> int:
        """Samples a second that the processor of a modality wants its sounds in."""
        return self.modalities[name].sampling_rate(name)

    def _modality(self, name: str, asked: Mapping[str, Any]) -> Any:
        modality = self.modalities[name]
        if modality.kind != "text" or not asked:
            return modality
        default = {"padding": True, "truncation": True} if modality.options is None else modality.options
        return replace(modality, options={**default, **asked})

    @property
    def model_input_names(self) -> list[str]:
        """Inputs that the processor makes."""
        names = []
        for name, modality in self.modalities.items():
            own = getattr(modality.processor, "model_input_names", [f"{name}_features"])
            names += [modality.rename.get(key, key) for key in own]
        return names

    def get_attributes(self) -> list[str]:
        """Names under which `getattr` gives the processor of each modality."""
        return [f"{name}_processor" for name, modality in self.modalities.items() if modality.processor is not None]

    def __getattr__(self, name: str) -> Any:
        modalities = vars(self).get("modalities", {})
        # `image_processor` is that of images under any name, where there is one, as `tokenizer` and `feature_extractor`.
        kind = {"tokenizer": "text", "image_processor": "image", "feature_extractor": "audio"}.get(name)
        of_kind = [m for m in modalities.values() if m.kind == kind]
        if len(of_kind) == 1:
            return of_kind[0].processor
        own = modalities.get(name.removesuffix("_processor"))
        if name.endswith("_processor") and own is not None:
            return own.processor
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """What is saved beside the files of the processors."""
        entries = {}
        for name, modality in self.modalities.items():
            kept = {"kind": modality.kind, "options": modality.options, "rename": dict(modality.rename)}
            entries[name] = kept | {"width": modality.width}
        return {
            "processor_class": type(self).__name__,
            "modalities": {
                m: {key: x for key, x in kept.items() if x not in (None, {})} for m, kept in entries.items()
            },
        }

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """
        Write the processors of all modalities into a folder, as [`AutoProcessor`] reads it.

        The first of each kind of file lies in the folder itself, where other programs look; others in folders called after
        their modality.
        """
        if push_to_hub:
            raise ValueError("`push_to_hub` is a method: `processor.push_to_hub(repo_id)`.")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, place in places({name: modality.kind for name, modality in self.modalities.items()}):
            self.modalities[name].processor.save_pretrained(folder / place)
        file = folder / PROCESSOR_NAME
        file.write_text(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return [str(file)]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "MultiEncoderProcessor":
        """
        A processor that was saved or pushed.

        Args:
            pretrained_model_name_or_path (`str` or `Path`):
                A folder or a Hub id.
            kwargs:
                Where to find it: `revision`, `token`, `subfolder`, `cache_dir`. Code of the repository is never run.

        Raises:
            OSError: There is none.
            ValueError: Its modalities are not understood.
        """
        from hf_contrastive.data.modalities import Modality

        hub = {name: kwargs[name] for name in _HUB if kwargs.get(name) is not None}
        file = cached_file(str(pretrained_model_name_or_path), PROCESSOR_NAME, **hub)
        entries = json.loads(Path(file).read_text(encoding="utf-8")).get("modalities", {})
        subfolder = hub.pop("subfolder", "")
        kinds = {check_name(name): str(entry.get("kind")) for name, entry in entries.items()}
        processors = {}
        for name, place in places(kinds):
            where = "/".join(part for part in (subfolder, place) if part)
            source = str(pretrained_model_name_or_path)
            processors[name] = LOADERS[kinds[name]].from_pretrained(
                source, trust_remote_code=False, **hub, **({"subfolder": where} if where else {})
            )
        return cls({name: Modality(processor=processors.get(name), **entry) for name, entry in entries.items()})
