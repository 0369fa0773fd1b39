"""One call of an encoder, as an embedding needs it."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hf_contrastive.models.peculiarities import peculiarities_of
from hf_contrastive.models.pooling import token_mask, tokens_of
from hf_contrastive.models.precision import as_dtype


# What encoders call the mask of their tokens, that of SigLIP 2 among them.
_MASKS = ("attention_mask", "pixel_attention_mask")


def run_options(encoder: Any) -> dict[str, Any]:
    """Arguments with which an encoder returns a dictionary, keeps no keys and values and predicts nothing."""
    parameters = inspect.signature(type(encoder).forward).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    options: dict[str, Any] = {"return_dict": True} if open_ended or "return_dict" in parameters else {}
    wanted = {"use_cache": False, "skip_predictor": True}
    return options | {name: x for name, x in wanted.items() if name in parameters}


def call_encoder(encoder: Any, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """What an encoder returns for inputs, in its precision, with its [`run_options`]."""
    inputs = {name: as_dtype(x, encoder) for name, x in inputs.items()}
    extra = peculiarities_of(encoder.config).extra_inputs
    return encoder(**inputs, **(extra(encoder.config, inputs) if extra else {}), **options)


def mask_of_tokens(encoder: Any, inputs: Mapping[str, Any], output: Mapping[str, Any]) -> Tensor | None:
    """Which tokens that an encoder returned are no padding, of shape (b, t), or None where all count."""
    tokens = tokens_of(output)
    given = next((inputs[name] for name in _MASKS if inputs.get(name) is not None), None)
    return None if tokens is None else token_mask(encoder, tokens.shape[1], given)
