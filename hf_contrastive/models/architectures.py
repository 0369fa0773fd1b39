"""Encoders of `transformers`, from a configuration, a name or a model."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from hf_contrastive.hub.untrusted import check_model, checked_revision
from hf_contrastive.models.configuration import refuse_code
from hf_contrastive.models.peculiarities import peculiarities_of
from hf_contrastive.sharded_parameters import loaded_whole


# Arguments of `from_pretrained` that say where files are.
_LOCATION = ("revision", "token", "cache_dir", "local_files_only", "subfolder")
# Layers that are left out at random would leave processes waiting for their gradients.
_SETTINGS = {"layerdrop": 0.0, "encoder_layerdrop": 0.0}
# What the configuration of a model with several towers calls that of a modality's.
_PARTS = {"image": "vision_config"}


def build_encoder(config: PreTrainedConfig, architecture: str | None = None) -> PreTrainedModel:
    """
    A new encoder, with random weights.

    Raises:
        ValueError: There is no such architecture in `transformers`.
    """
    return encoder_of(encoder_class(config, architecture)._from_config(config))


def encoder_class(config: PreTrainedConfig, architecture: str | None = None) -> type[PreTrainedModel]:
    """The class of `transformers` that a configuration is for."""
    if architecture is None and type(config) in MODEL_MAPPING:
        found = MODEL_MAPPING[type(config)]
        return found[0] if isinstance(found, (list, tuple)) else found
    # Such as ClapAudioModel, which `AutoModel` does not list.
    name = architecture or type(config).__name__.removesuffix("Config") + "Model"
    model: Any = getattr(transformers, name, None)
    is_model = isinstance(model, type) and issubclass(model, PreTrainedModel)
    if not is_model or model.config_class is not type(config):
        raise ValueError(f"`transformers` has no model {name!r} for a {type(config).__name__}.")
    return model


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder of a model with a decoder, such as Whisper; else the model itself."""
    if not model.config.is_encoder_decoder or model.main_input_name is None or not hasattr(model, "decoder"):
        return model
    return model.get_encoder()


@loaded_whole()
def load_encoder(modality: str, source: Any, **kwargs: Any) -> PreTrainedModel:
    """
    The encoder that a user means.

    Args:
        modality (`str`):
            Its modality, which says what tower of CLIP, SigLIP or CLAP is meant.
        source (`str`, `Path`, [`~transformers.PreTrainedModel`] or [`~transformers.PreTrainedConfig`]):
            A Hub id or a folder with weights, a model, or a configuration of one with random weights.
        kwargs:
            Further arguments of `from_pretrained`, for names and folders.

    Raises:
        ValueError: The source is none of these, or several towers of which none is this modality's.
    """
    if isinstance(source, PreTrainedModel):
        return _tower_of(source, modality)
    if isinstance(source, PreTrainedConfig):
        return build_encoder(copy.deepcopy(_part(modality, source)))
    if isinstance(source, (str, Path)):
        return _load_encoder(modality, source, kwargs)
    raise ValueError(
        f"The {modality} tower must be a name or folder, a model, a configuration, or the width of precomputed "
        f"features, but got a {type(source).__name__}."
    )


def _tower_of(model: PreTrainedModel, modality: str) -> PreTrainedModel:
    part = _part(modality, model.config)
    encoder = encoder_of(next(module for module in model.modules() if getattr(module, "config", None) is part))
    # It must be one that can be made from its configuration again.
    encoder_class(encoder.config, architecture_of(encoder))
    return encoder


def _load_encoder(modality: str, source: str | Path, kwargs: Mapping[str, Any]) -> PreTrainedModel:
    hub = location(kwargs)
    hub |= (checked := checked_revision(check_model(source, **hub)))
    whole = AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
    config = _part(modality, whole)
    refuse_code(whole.to_dict(), f"The {modality} tower of {str(source)!r}")
    made = encoder_class(config)
    options = {**kwargs, **checked, "use_safetensors": True}
    if config is not whole and made.base_model_prefix not in ("vision_model", "text_model", "audio_model"):
        # Such as CLAP's towers, which would not find their weights among those of all.
        return _tower_of(encoder_class(whole).from_pretrained(source, config=whole, **options), modality)
    return encoder_of(made.from_pretrained(source, config=config, **options))


def base_of(source: Any) -> str | None:
    """The Hub id of the weights that a source of [`load_encoder`] has, `"."` for those of a folder, None for new ones."""
    name = source.name_or_path if isinstance(source, PreTrainedModel) else source
    if isinstance(source, PreTrainedConfig) or not str(name):
        return None
    # A place on somebody's disk concerns nobody.
    is_place = isinstance(name, Path) or str(name).startswith((".", "/", "~")) or Path(name).exists()
    return "." if is_place else str(name)


def architecture_of(encoder: PreTrainedModel) -> str | None:
    """The name of an encoder's class, where it is not the one that its configuration makes."""
    wanted = encoder_class(encoder.config)
    is_default = type(encoder) is wanted or encoder.config.is_encoder_decoder
    return None if is_default else type(encoder).__name__


def set_up(encoder: PreTrainedModel) -> None:
    """Switch off what belongs to pre-training."""
    settings = {**_SETTINGS, **peculiarities_of(encoder.config).settings}
    for module in encoder.modules():
        # Some modules have copied a value from their configuration, others look there.
        for holder in (module, getattr(module, "config", None)):
            for name, value in settings.items():
                if hasattr(holder, name):
                    setattr(holder, name, value)


def location(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of `from_pretrained` that say where files are."""
    return {name: kwargs[name] for name in _LOCATION if kwargs.get(name) is not None}


def _part(modality: str, config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of one tower, where there are several."""
    towers = [name for name in config.sub_configs if name in ("vision_config", "text_config", "audio_config")]
    if len(towers) < 2:
        return config
    wanted = _PARTS.get(modality, f"{modality}_config")
    if wanted not in towers:
        raise ValueError(
            f"A {type(config).__name__} has the towers {towers}, and none of them is called after the modality "
            f"{modality!r}. Give the tower itself, such as `CLIPTextModel.from_pretrained(...)`."
        )
    return getattr(config, wanted)
