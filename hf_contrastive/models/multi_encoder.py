"""Any encoders in, one unit embedding per modality out."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from hf_contrastive.hub.untrusted import check_model, checked_revision
from hf_contrastive.models.architectures import location
from hf_contrastive.models.calls import call_encoder, mask_of_tokens, run_options
from hf_contrastive.models.checkpointing import CheckpointingMixin
from hf_contrastive.models.configuration import MultiEncoderConfig
from hf_contrastive.models.encoding import EncodingMixin
from hf_contrastive.models.feature_methods import FeatureMethodsMixin
from hf_contrastive.models.fitting import fit_encoder, fit_head, freeze, plan_towers
from hf_contrastive.models.heads import init_head
from hf_contrastive.models.inputs import FEATURES, InputNames, inputs_read_by
from hf_contrastive.models.pooling import pool
from hf_contrastive.models.precision import as_dtype, precision, unit
from hf_contrastive.pair_scales import BIAS, pair_names
from hf_contrastive.towers.precomputed import CACHED


class MultiEncoder(EncodingMixin, FeatureMethodsMixin, CheckpointingMixin, PreTrainedModel):
    """
    An encoder of `transformers` for each of two or more modalities, each with a head into one space.

    Towers are called `<modality>_model` and heads `<modality>_projection`. A tower reads its own inputs, such as
    `input_ids` and `pixel_values`; where two read the same, they are called after their modality, such as
    `query_input_ids`, see [`InputNames`]. Modalities without inputs are absent from the output.

    Args:
        config ([`MultiEncoderConfig`]):
            Its modalities. What they leave open (pooling, widths) is found by running each encoder once on a tiny
            example, and written to the configuration.
        towers (`dict[str, PreTrainedModel]`, *optional*):
            Encoders to use instead of new ones.

    Raises:
        ValueError: There are fewer than two modalities, an encoder cannot be pooled as the configuration says, or a head
            does not fit.
    """

    config_class = MultiEncoderConfig
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # See towers/precomputed.py.
    reads_cached_towers = True

    def __init__(self, config: MultiEncoderConfig, towers: Mapping[str, PreTrainedModel] | None = None) -> None:
        super().__init__(config)
        if len(config.modalities) < 2:
            raise ValueError(f"`modalities` must be two or more, but got {list(config.modalities)}.")
        for name, modality in config.modalities.items():
            if modality.shared_with is None:
                self.add_module(f"{name}_model", fit_encoder(name, modality, (towers or {}).get(name)))
        for name, modality in config.modalities.items():
            if modality.head is not None:
                self.add_module(
                    f"{name}_projection", fit_head(name, modality, config.modalities[self._owner(name)], config.width)
                )
        encoders = {name: self._encoder(name) for name in config.modalities}
        self._inputs = InputNames({name: inputs_read_by(encoder) for name, encoder in encoders.items()})
        # Found once: to look into a signature takes longer than to call a small layer.
        self._run_options = {name: run_options(encoder) for name, encoder in encoders.items() if encoder is not None}
        self.supports_gradient_checkpointing = any(
            encoder.supports_gradient_checkpointing for encoder in encoders.values() if encoder is not None
        )
        size = len(pair_names(list(config.modalities))) if config.scale_per_pair else 1
        self.logit_scale = nn.Parameter(torch.full((size,), float(config.logit_scale_init_value)))
        if config.logit_bias_init_value is not None:
            self.logit_bias = nn.Parameter(torch.full((size,), float(config.logit_bias_init_value)))
        self._untrained = [name for name, p in self.named_parameters() if not p.requires_grad]
        self.post_init()

    @classmethod
    def from_towers(
        cls,
        towers: Mapping[str, Any],
        *,
        width: int = 512,
        pooling: str | Mapping[str, str] | None = None,
        head: str | Mapping[str, str] = "linear",
        shared: Mapping[str, str] | None = None,
        dtype: torch.dtype | str | None = None,
        tower_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> "MultiEncoder":
        """
        Join encoders, with their weights, and new heads, in evaluation mode.

        Example:
        ```python
        MultiEncoder.from_towers({"image": "facebook/dinov2-small", "text": "answerdotai/ModernBERT-base"})
        MultiEncoder.from_towers({"query": "Qwen/Qwen3-0.6B", "product": 256}, head="mlp")
        ```

        Args:
            towers (`dict[str, Any]`):
                By modality, a Hub id or a folder, a model, a configuration (random weights), or the width of precomputed
                features. Of CLIP and the like, the tower of the modality is taken.
            width (`int`, *optional*, defaults to 512):
                Width of the joint space.
            pooling (`str` or `dict[str, str]`, *optional*):
                For all towers or by modality, see [`ModalityConfig`]. By default as `sentence-transformers` has saved
                it with a tower, or found from its architecture.
            head (`str` or `dict[str, str]`, *optional*, defaults to `"linear"`):
                Likewise: `"linear"`, `"mlp"` or `"none"`.
            shared (`dict[str, str]`, *optional*):
                Modalities that use the tower and head of another, such as `{"document": "query"}`; with a head of their
                own if `head` names them.
            dtype (`torch.dtype` or `str`, *optional*):
                Precision of all weights. By default that of the towers, or single if they differ.
            tower_kwargs (`dict`, *optional*):
                Further arguments of `from_pretrained` of towers given by name, such as `attn_implementation`.
            kwargs:
                Further arguments of [`MultiEncoderConfig`].
        """
        known = [name for name in signature(MultiEncoderConfig).parameters if name not in ("modalities", "kwargs")]
        if unknown := sorted(set(kwargs) - {*known, "attn_implementation"}):
            raise ValueError(f"`from_towers` knows no {unknown}. A configuration takes {known}.")
        modalities, encoders = plan_towers(towers, pooling, head, shared or {}, tower_kwargs or {})
        of_towers = {encoder.dtype for encoder in encoders.values()}
        common = of_towers.pop() if len(of_towers) == 1 else torch.float32
        wanted = precision(dtype) or common
        model = cls(MultiEncoderConfig(modalities=modalities, width=width, **kwargs), encoders).to(wanted)
        model.config.dtype = wanted
        return model.eval()

    @classmethod
    def from_config(cls, config: MultiEncoderConfig, **kwargs: Any) -> "MultiEncoder":
        """A model with random weights, see [`MultiEncoderConfig`]."""
        return cls._from_config(config, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """
        A model that was saved or pushed, see [`~transformers.PreTrainedModel.from_pretrained`].

        Weights are read from safetensors only, and code of the repository is never run.
        """
        if not kwargs.setdefault("use_safetensors", True):
            raise ValueError("`use_safetensors` must be True: pickled weights could run code.")
        source = location(kwargs)
        if pretrained_model_name_or_path is not None:
            source |= checked_revision(check_model(pretrained_model_name_or_path, **source))
            kwargs |= source
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # Loading makes all parameters anew, trainable, fixed position embeddings as well.
        freeze(model, model._untrained)
        if pretrained_model_name_or_path is not None:
            model._processor_source = (pretrained_model_name_or_path, source)
        return loaded

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, in alphabetical order."""
        return list(self.config.modalities)

    def input_name(self, modality: str, name: str) -> str:
        """What this model's forward calls the input `name` of a tower: `query_input_ids` where several read `input_ids`."""
        return self._inputs.name(modality, name)

    def inputs_of(self, modality: str) -> tuple[str, ...]:
        """Names of the inputs that a modality's tower reads, without prefix."""
        return self._inputs.reads[modality]

    def forward(self, return_dict: bool | None = None, **inputs: Tensor | None) -> Any:
        """
        Unit-norm embeddings, `<modality>_embeds` of shape (batch, width), of the modalities that have inputs.

        Args:
            return_dict (`bool`, *optional*, defaults to `True`):
                Whether to return a `ModelOutput` instead of a tuple.
            inputs (`dict[str, torch.Tensor]`):
                Inputs of the towers, see [`InputNames`].

        Raises:
            ValueError: There are no inputs, or it is not clear whose one is.
        """
        given = self._inputs.split(inputs)
        if not given:
            raise ValueError(f"The model got no input of any of its modalities {self.modalities}.")
        embeds = {f"{name}_embeds": unit(self._features(name, mine).pooler_output) for name, mine in given.items()}
        output = ModelOutput(**embeds)
        return output.to_tuple() if return_dict is False else output

    def _features(self, name: str, inputs: dict[str, Any]) -> BaseModelOutputWithPooling:
        """Output of a tower, with its embedding, before it is normalized, as `pooler_output`."""
        owner = self._owner(name)
        encoder = self._encoder(name)
        output: Any = {}
        mask = None
        if CACHED in inputs:
            pooled = inputs[CACHED]
        elif encoder is None:
            pooled = inputs[FEATURES]
        else:
            output = call_encoder(encoder, inputs, self._run_options[name])
            mask = mask_of_tokens(encoder, inputs, output)
            pooled = pool(self.config.modalities[owner].pooling, output, mask)
        head = getattr(self, f"{owner if self.config.modalities[name].head is None else name}_projection", None)
        if head is not None:
            pooled = as_dtype(pooled, head)
            pooled = head(pooled) if pooled.dim() == 2 else head(pooled, mask)
        return BaseModelOutputWithPooling(last_hidden_state=output.get("last_hidden_state"), pooler_output=pooled)

    def _owner(self, name: str) -> str:
        return self.config.modalities[name].shared_with or name

    def _encoder(self, name: str) -> Any:
        encoder = getattr(self, f"{self._owner(name)}_model")
        return None if isinstance(encoder, nn.Identity) else encoder

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
            if hasattr(self, BIAS):
                init.constant_(self.logit_bias, self.config.logit_bias_init_value)
        elif not init_head(module):
            super()._init_weights(module)
