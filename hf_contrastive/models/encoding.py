"""Raw values in, unit embeddings out: pictures, texts and sounds through a model and its processor."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import PROCESSOR_NAME, cached_file

from hf_contrastive.models.repeatable import repeatable_inputs
from hf_contrastive.towers.forwards import evaluation_mode


class EncodingMixin:
    """`encode` and the like, for a model with a `processor`."""

    config: Any
    _processor: Any = None
    # Where the model was loaded from, and with what arguments.
    _processor_source: Any = None

    @property
    def processor(self) -> Any:
        """The [`MultiEncoderProcessor`] of the model: the one that was set, or the one saved beside it."""
        if self._processor is None:
            if self._processor_source is None:
                raise ValueError("The model has no processor yet: set `model.processor = MultiEncoderProcessor(...)`.")
            from hf_contrastive.models.processor import MultiEncoderProcessor

            name, kwargs = self._processor_source
            self.processor = MultiEncoderProcessor.from_pretrained(name, **kwargs)
        return self._processor

    @processor.setter
    def processor(self, processor: Any) -> None:
        if processor is not None and (unknown := sorted(set(processor.modalities) - set(self.config.modalities))):
            raise ValueError(f"The processor is for {unknown}, but the model has {list(self.config.modalities)}.")
        object.__setattr__(self, "_processor", processor)

    def has_processor(self) -> bool:
        """Whether the model has a [`processor`], set or saved beside it."""
        if self._processor is not None or self._processor_source is None:
            return self._processor is not None
        name, kwargs = self._processor_source
        if cached_file(str(name), PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False, **kwargs) is None:
            # Asked once: a Hub that fails later must not stop a checkpoint.
            self._processor_source = None
        return self._processor_source is not None

    def save_pretrained(
        self,
        save_directory: Any,
        is_main_process: bool = True,
        state_dict: Any = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the model, and then its processor, if it has one, as [`~transformers.PreTrainedModel`] does without."""
        if push_to_hub:
            raise ValueError("`push_to_hub` is a method: `model.push_to_hub(repo_id)`.")
        base: Any = super()
        base.save_pretrained(save_directory, is_main_process, state_dict, **kwargs)
        if is_main_process and self.has_processor():
            self.processor.save_pretrained(save_directory)

    def encode_image(self, images: Sequence[Any], **kwargs: Any) -> Any:
        """Unit embeddings of pictures (`PIL.Image`), see [`encode`]."""
        return self.encode("image", images, **kwargs)

    def encode_text(self, texts: Sequence[str], **kwargs: Any) -> Any:
        """Unit embeddings of texts, see [`encode`]."""
        return self.encode("text", texts, **kwargs)

    def encode_audio(self, sounds: Sequence[Any], **kwargs: Any) -> Any:
        """Unit embeddings of sounds, `{"array": ..., "sampling_rate": ...}`, see [`encode`]."""
        return self.encode("audio", sounds, **kwargs)

    def encode(
        self,
        modality: str,
        data: Any,
        *,
        batch_size: int = 32,
        show_progress: bool = False,
        to_numpy: bool = False,
    ) -> Any:
        """
        Unit embeddings of raw values, without dropout and gradients, on the model's device.

        Several threads may use a model at once if it is in evaluation mode, as it is when it is loaded.

        Args:
            modality (`str`):
                Which tower.
            data (`list` or `Iterable`):
                Texts, pictures, sounds or precomputed features, as the modality's processor takes them.
            batch_size (`int`, *optional*, defaults to 32):
                Values per forward pass. Texts of similar length go together.
            show_progress (`bool`, *optional*, defaults to `False`):
                Whether to show a bar.
            to_numpy (`bool`, *optional*, defaults to `False`):
                Whether to return an array instead of a tensor on the CPU.

        Returns:
            Single-precision rows of length 1, of shape (len(data), width), in the order of `data`. Each is that of its
            value alone, but for towers that normalize a sound with its padding, as wav2vec2's base models do.

        Raises:
            ValueError: There is no such modality, no data, or a single value instead of a list.
        """
        processors = self.processor.modalities
        if modality not in processors:
            raise ValueError(f"`modality` must be one of {sorted(processors)}, but got {modality!r}.")
        values = _values(data, processors[modality].kind)
        if not values or type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"`data` must have values and `batch_size` be positive: {len(values)}, {batch_size}.")
        order = sorted(range(len(values)), key=lambda row: -_length(values[row]))
        model: Any = self
        with evaluation_mode(model):
            rows = self._encode(modality, processors[modality], [values[i] for i in order], batch_size, show_progress)
        embeds = torch.empty_like(rows)
        embeds[torch.tensor(order)] = rows
        return embeds.numpy() if to_numpy else embeds

    @torch.inference_mode()
    def _encode(
        self, modality: str, processor: Any, values: list[Any], batch_size: int, show_progress: bool
    ) -> Tensor:
        model: Any = self
        parts = []
        for start in tqdm(range(0, len(values), batch_size), desc=f"embedding {modality}", disable=not show_progress):
            inputs = repeatable_inputs(processor, modality, values[start : start + batch_size])
            output = model(**{name: x.to(model.device) for name, x in inputs.items()})
            parts.append(output[f"{modality}_embeds"].float().cpu())
        return torch.cat(parts)

    @staticmethod
    def similarity(a: Any, b: Any) -> Float[Tensor, "n m"]:
        """Cosines of the rows of `a`, of shape (n, width), with those of `b`, of shape (m, width); tensors or arrays."""
        rows = [torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x) for x in (a, b)]
        if any(x.dim() != 2 for x in rows) or rows[0].shape[1] != rows[1].shape[1]:
            shapes = [list(x.shape) for x in rows]
            raise ValueError(f"`a` and `b` must be rows of one width, of shape (n, width), but got {shapes}.")
        x, y = (torch.nn.functional.normalize(row.float(), dim=-1) for row in rows)
        return x @ y.T


def _values(data: Any, kind: str | None) -> list[Any]:
    """A list of data; a ValueError if they are none, or names the row of one that is not there or no text."""
    from hf_contrastive.data.modalities import problem_of

    is_one = isinstance(data, (str, bytes, Mapping)) or getattr(data, "ndim", 1) == 0
    if is_one or not isinstance(data, Iterable):
        raise ValueError(f"`data` must be a list of values, but got a {type(data).__name__}.")
    values = list(data)
    for row, value in enumerate(values):
        # Here, since batches have other rows.
        problem = "nothing" if value is None else problem_of("text", value) if kind == "text" else None
        if problem is not None:
            raise ValueError(f"`data[{row}]` is {problem}.")
    return values


def _length(value: Any) -> int:
    """How long a text or a sound is, so that those of a batch need little padding."""
    if isinstance(value, str):
        return len(value)
    return len(value["array"]) if isinstance(value, Mapping) and "array" in value else 0
