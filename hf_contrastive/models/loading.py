"""Any dual encoder of the Hub or of a folder, with its processor."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, PreTrainedModel, ProcessorMixin

from hf_contrastive.hub.untrusted import check_model, checked_revision
from hf_contrastive.sharded_parameters import loaded_whole


@loaded_whole()
def load_dual_encoder(name: str, **kwargs: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    """
    A pretrained model with two or more towers and the processor saved beside it.

    Args:
        name (`str`):
            A Hub id or a folder: CLIP, SigLIP, a vision-text dual encoder.
        kwargs:
            Further arguments of both `from_pretrained`, such as `revision`. Code from the repository is never run.
            `dtype` is `torch.float32` unless it is given, whatever the files hold: an optimizer's small updates are lost
            in weights of half precision, which mixed precision (`bf16=True`) does not need. `dtype="auto"` keeps that of
            the files.

    Raises:
        FileNotFoundError: The name is a path where there is nothing.
        ValueError: The model has one tower, or no temperature; or its repository holds no processor for all modalities.
        UntrustedError: Its files lead elsewhere, or it needs code of its own, or its weights are pickles.
    """
    if name.startswith((".", "/", "~")):
        if not Path(name).expanduser().exists():
            raise FileNotFoundError(f"`model` is the path {name!r}, where there is nothing.")
        name = str(Path(name).expanduser())
    kwargs = kwargs | checked_revision(check_model(name, **kwargs))
    # `torch_dtype` is what `dtype` was called in transformers 4, and still taken.
    weights = {"dtype": kwargs.pop("dtype", kwargs.pop("torch_dtype", torch.float32))}
    model = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True, **kwargs, **weights)
    if getattr(model, "logit_scale", None) is None:
        raise ValueError(
            f"`model` must be a dual encoder such as CLIP or SigLIP, with a `logit_scale`, but {name!r} is a "
            f"{type(model).__name__}, which has none."
        )
    advice = "Save one beside the model, for example `CLIPProcessor(image_processor, tokenizer).save_pretrained(...)`."
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False, **kwargs)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name!r} holds no processor of images and text ({error}). {advice}") from error
    if not isinstance(processor, ProcessorMixin):
        raise ValueError(
            f"{name!r} holds a {type(processor).__name__} instead of a processor of images and text. {advice}"
        )
    return model, processor
