"""Two towers as a dual encoder of `transformers`: the same function in the weights of another class."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import (
    ClapAudioModel,
    ClapConfig,
    ClapModel,
    ClapTextModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPVisionModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    SiglipTextModel,
    SiglipVisionModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from hf_contrastive.export.errors import InexpressibleError
from hf_contrastive.export.parts import Pair, Part, is_automatic


def plain_model(pair: Pair, dtype: torch.dtype) -> PreTrainedModel:
    """
    A dual encoder of `transformers` with the embeddings and the temperature of two towers.

    Args:
        pair: The towers.
        dtype: Precision of the weights. Where matrices had to be multiplied, it is single precision.

    Raises:
        InexpressibleError: None of its classes can be one; the message says why not.
    """
    refused = []
    for build in _candidates(pair):
        try:
            model, exact = build(pair)
        except InexpressibleError as error:
            refused.append(str(error))
            continue
        return model.to(dtype if exact else torch.float32).eval()
    raise InexpressibleError(" ".join(refused))


def _candidates(pair: Pair) -> list[Callable[[Pair], tuple[PreTrainedModel, bool]]]:
    if pair.other.kind == "audio":
        return [_clap]
    classes = (type(pair.other.encoder), type(pair.text.encoder))
    if classes == (CLIPVisionModel, CLIPTextModel):
        return [_clip]
    return [_siglip, _vision_text] if classes == (SiglipVisionModel, SiglipTextModel) else [_vision_text]


def _clip(pair: Pair) -> tuple[PreTrainedModel, bool]:
    _check(pair, "CLIPModel", poolings=("pooler",), heads=("linear", "none"), bias=False)
    # For `CLIPTextModelWithProjection` and the like, which read it there.
    width = {"projection_dim": pair.width}
    config = CLIPConfig(
        vision_config=_settings(pair.other) | width,
        text_config=_settings(pair.text) | width,
        projection_dim=pair.width,
        logit_scale_init_value=pair.logit_scale,
    )
    model = CLIPModel(config)
    _fill(model, "vision_model", pair.other, "visual_projection")
    _fill(model, "text_model", pair.text, "text_projection")
    _set(model.logit_scale, pair.logit_scale)
    return model, True


def _siglip(pair: Pair) -> tuple[PreTrainedModel, bool]:
    _check(pair, "SiglipModel", poolings=("pooler",), heads=("linear", "none"), bias=True)
    if pair.other.head is not None:
        raise InexpressibleError(
            f"SiglipModel has nothing after its image tower, but {pair.other.modality!r} has a linear head."
        )
    # The linear map in which its text tower ends takes the head in.
    folded = pair.text.head is not None
    text = _settings(pair.text) | ({"projection_size": pair.width} if folded else {})
    model = SiglipModel(SiglipConfig(vision_config=_settings(pair.other), text_config=text))
    _fill(model, "vision_model", pair.other)
    state = {name: x.float() for name, x in pair.text.encoder.state_dict().items()}
    if folded:
        matrix = pair.text.matrix().double()
        for name in ("head.weight", "head.bias"):
            state[name] = (matrix @ state[name].double()).float()
    model.text_model.load_state_dict(state)
    _set(model.logit_scale, pair.logit_scale)
    _set(model.logit_bias, pair.logit_bias or 0.0)
    return model, not folded


def _vision_text(pair: Pair) -> tuple[PreTrainedModel, bool]:
    name = "VisionTextDualEncoderModel"
    _check(pair, name, poolings=("pooler", "cls"), heads=("linear", "none"), bias=False)
    settings = {}
    for part in (pair.other, pair.text):
        if not is_automatic(part.encoder):
            raise InexpressibleError(
                f"{name} holds what `AutoModel` makes, but the tower of {part.modality!r} is a "
                f"{type(part.encoder).__name__}."
            )
        settings[part.modality] = _settings(part)
        if part.pooling == "cls":
            if part.encoder.config.model_type != "vit":
                raise InexpressibleError(_pooling(name, part))
            # ViT's pooler, a linear map of the class token and an activation, becomes the identity.
            settings[part.modality] |= {"pooler_act": "linear", "pooler_output_size": part.features}
        width = settings[part.modality].setdefault("hidden_size", part.features)
        if width != part.features:
            raise InexpressibleError(
                f"{name} takes vectors as wide as the hidden states, {width}, but those of {part.modality!r} are "
                f"{part.features} wide."
            )
    config = VisionTextDualEncoderConfig(
        vision_config=settings[pair.other.modality],
        text_config=settings[pair.text.modality],
        projection_dim=pair.width,
        logit_scale_init_value=pair.logit_scale,
    )
    model = VisionTextDualEncoderModel(config)
    _fill(model, "vision_model", pair.other, "visual_projection")
    _fill(model, "text_model", pair.text, "text_projection")
    _set(model.logit_scale, pair.logit_scale)
    return model, True


def _clap(pair: Pair) -> tuple[PreTrainedModel, bool]:
    for part, wanted in ((pair.other, ClapAudioModel), (pair.text, ClapTextModel)):
        if type(part.encoder) is not wanted:
            raise InexpressibleError(
                f"ClapModel has a {wanted.__name__}, but the tower of {part.modality!r} is a {type(part.encoder).__name__}."
            )
    _check(pair, "ClapModel", poolings=("pooler",), heads=("linear", "mlp", "none"), bias=False)
    heads = {part.modality: part.head_kind for part in (pair.other, pair.text)}
    mlp = set(heads.values()) == {"mlp"}
    if not mlp and "mlp" in heads.values():
        raise InexpressibleError(f"ClapModel has one activation in both heads, but the heads are {heads}.")
    if mlp and not pair.other.features == pair.text.features == pair.width:
        raise InexpressibleError(
            f"ClapModel's heads are as wide inside as the joint space, {pair.width}, but those of the model are "
            f"{pair.other.features} and {pair.text.features}."
        )
    projection: dict[str, Any] = {
        "projection_dim": pair.width,
        "projection_hidden_act": "gelu" if mlp else "linear",
    }
    config = ClapConfig(
        audio_config=_settings(pair.other) | projection,
        text_config=_settings(pair.text) | projection,
        **projection,
    )
    model = ClapModel(config)
    for name, part in (("audio", pair.other), ("text", pair.text)):
        _fill(model, f"{name}_model", part)
        head: Any = getattr(model, f"{name}_projection")
        with torch.no_grad():
            if mlp:
                mine: Any = part.head
                head.linear1.load_state_dict(mine[0].state_dict())
                head.linear2.weight.copy_(mine[2].weight)
            else:
                head.linear1.weight.copy_(part.matrix())
                head.linear1.bias.zero_()
                head.linear2.weight.copy_(torch.eye(pair.width))
            head.linear2.bias.zero_()
    for scale in (model.logit_scale_a, model.logit_scale_t):
        _set(scale, pair.logit_scale)
    return model, True


def _check(pair: Pair, name: str, poolings: tuple[str, ...], heads: tuple[str, ...], bias: bool) -> None:
    parts = (pair.other, pair.text)
    reasons = [_pooling(name, part) for part in parts if part.pooling not in poolings]
    # Learned attention is a pooling and a head, and told as the former.
    wrong = [part for part in parts if part.head_kind not in (*heads, "attention")]
    if told := " and ".join(f"the head of {part.modality!r} is {part.head_kind!r}" for part in wrong):
        reasons.append(f"{name} has linear heads without bias, but {told}.")
    if pair.logit_bias is not None and not bias:
        reasons.append(f"{name} has no bias of the logits, but the model's `logit_bias` is {pair.logit_bias}.")
    if reasons:
        raise InexpressibleError(" ".join(reasons))


def _pooling(name: str, part: Part) -> str:
    return (
        f"{name} takes the vector that {type(part.encoder).__name__} pools itself, but the pooling of "
        f"{part.modality!r} is {part.pooling!r}."
    )


def _settings(part: Part) -> dict[str, Any]:
    settings: dict[str, Any] = copy.deepcopy(part.encoder.config).to_dict()
    return {name: x for name, x in settings.items() if name not in ("transformers_version", "dtype", "_name_or_path")}


def _fill(model: Any, name: str, part: Part, projection: str | None = None) -> None:
    state = {key: x.float() for key, x in part.encoder.state_dict().items()}
    if part.pooling == "cls":
        state |= {"pooler.dense.weight": torch.eye(part.features), "pooler.dense.bias": torch.zeros(part.features)}
    getattr(model, name).load_state_dict({key: x.cpu() for key, x in state.items()})
    if projection is not None:
        with torch.no_grad():
            getattr(model, projection).weight.copy_(part.matrix())


def _set(parameter: nn.Parameter, value: float) -> None:
    with torch.no_grad():
        parameter.fill_(value)
