"""What a card says of a model's encoders, read from the model."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from hf_contrastive.report.facts import TowerFacts
from hf_contrastive.towers.find import Tower, base_model, class_of, find_towers


# How encoders of `transformers` without a `pooler` make one vector of many.
POOLING = {
    "CLIPVisionModel": "class token",
    "CLIPVisionTransformer": "class token",
    "CLIPTextModel": "end-of-text token",
    "CLIPTextTransformer": "end-of-text token",
    "SiglipVisionModel": "attention",
    "SiglipVisionTransformer": "attention",
    "SiglipTextModel": "last token",
    "SiglipTextTransformer": "last token",
}
# What the configuration of joined towers calls it.
_POOLINGS = {
    "cls": "class token",
    "mean": "mean of the tokens",
    "last": "last token",
    "attention": "learned attention",
    "pooler": "its own pooler",
}
# What `peft` writes in capitals alone.
_ADAPTERS = {"LORA": "LoRA", "LOHA": "LoHa", "LOKR": "LoKr", "ADALORA": "AdaLoRA"}
_KINDS = {"input_ids": "text", "pixel_values": "image", "input_features": "audio", "input_values": "audio"}
# RoBERTa and its like number positions from behind the padding token's.
_BEFORE_FIRST = {"roberta": 2, "mpnet": 2, "xlm-roberta": 2, "camembert": 2, "clap_text_model": 2}


def describe_towers(model: nn.Module) -> tuple[TowerFacts, ...]:
    """The encoders of a model, with the way each makes one vector of an input."""
    try:
        towers = find_towers(model)
    except ValueError:
        # A model without separate encoders can be trained all the same.
        return ()
    settings = _joined(getattr(base_model(model), "config", None))
    if settings:
        return tuple(_of_joined(base_model(model), towers, settings))
    return tuple(
        TowerFacts(
            modality=tower.modality,
            encoder=class_of(tower.encoder).__name__,
            pooling=_pooling(tower),
            projection="none" if tower.projection is None else class_of(tower.projection).__name__,
            **_sizes(tower),
        )
        for tower in towers.values()
    )


def describe_adapter(model: nn.Module) -> str | None:
    """An adapter of `peft` in words, such as `LoRA of rank 8 on q_proj and v_proj`; None for a model without."""
    configs = getattr(model, "peft_config", None)
    if base_model(model) is model or not configs:
        return None
    config = next(iter(configs.values()))
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    rank, targets = getattr(config, "r", None), getattr(config, "target_modules", None)
    told = f"{_ADAPTERS.get(kind, kind)}{f' of rank {rank}' if rank else ''}"
    return told if not targets or isinstance(targets, str) else f"{told} on {', '.join(sorted(targets))}"


def describe_inputs(config: Any, processor: Any = None, options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """
    What is cut or resized before a model sees it, in words.

    Args:
        config: The model's configuration.
        processor: What makes its inputs: a tokenizer, a processor of all modalities, or a `Modality` by name.
        options: Arguments of a processor that is one.
    """
    parts = getattr(processor, "modalities", processor)
    parts = parts if isinstance(parts, Mapping) else {}
    if settings := _joined(config):
        found = []
        for name, modality in settings.items():
            tower = settings[modality.shared_with or name].tower
            if tokens := _cut_after(longest_text(tower), *_of_part(parts.get(name))):
                found.append(f"Values of `{name}` are cut after {tokens} tokens.")
            if size := _size(tower):
                found.append(f"Images of `{name}` are seen at {size} pixels.")
        return tuple(found)
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    found = []
    given = _of_part(parts.get("text")) if parts else (getattr(processor, "tokenizer", processor), options)
    if tokens := _cut_after(longest_text(text), *given):
        found.append(f"Texts are cut after {tokens} tokens.")
    if size := _size(vision):
        found.append(f"Images are seen at {size} pixels.")
    return tuple(found)


def _of_part(modality: Any) -> tuple[Any, Mapping[str, Any] | None]:
    return getattr(modality, "processor", None), getattr(modality, "options", None)


def _cut_after(positions: int | None, tokenizer: Any, options: Mapping[str, Any] | None) -> int | None:
    """Tokens after which texts are cut, where anything says; by default a tokenizer is asked to cut at its own limit."""
    if not hasattr(tokenizer, "model_max_length"):
        return positions
    options = {"truncation": True} if options is None else options
    if options.get("truncation") in (None, False, "do_not_truncate"):
        return None
    limits = [options.get("max_length") or tokenizer.model_max_length, positions]
    # Tokenizers without a limit say 1e30.
    return min((int(n) for n in limits if n is not None and n < 1e29), default=None)


def longest_text(config: Any) -> int | None:
    """Tokens of the longest text that an encoder has positions for, where its configuration says."""
    positions = getattr(config, "max_position_embeddings", None)
    return positions and int(positions) - _BEFORE_FIRST.get(config.model_type, 0)


def _of_joined(model: Any, towers: dict[str, Tower], settings: dict[str, Any]) -> Iterator[TowerFacts]:
    for name, modality in settings.items():
        owner = modality.shared_with or name
        tower, own = towers[owner], settings[owner]
        is_features = own.tower is None
        encoder = "precomputed features" if is_features else class_of(tower.encoder).__name__
        pooling = f"none, {own.features} wide" if is_features else _POOLINGS[own.pooling]
        head = modality.head or own.head
        yield TowerFacts(
            modality=name,
            encoder=encoder,
            pooling=pooling,
            projection=f"{head} to {model.config.width}" if head != "none" else "none",
            kind="embedding" if is_features else _KINDS[model.inputs_of(name)[0]],
            base=own.base,
            shared_with=modality.shared_with,
            **_sizes(tower),
        )


def _joined(config: Any) -> dict[str, Any]:
    """Settings by modality of a model of joined towers, none for any other."""
    found = getattr(config, "modalities", None)
    return found if isinstance(found, dict) and getattr(config, "model_type", None) == "multi_encoder" else {}


def _sizes(tower: Tower) -> dict[str, Any]:
    parameters = [p for block in tower.blocks for p in block.all_parameters()]
    # DeepSpeed ZeRO-3 leaves parameters empty and keeps their size beside them.
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in parameters]
    return {"parameters": sum(size for size, _ in sizes), "trainable": sum(size for size, learns in sizes if learns)}


def _size(config: Any) -> str | None:
    size = getattr(config, "image_size", None)
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    return f"{sides[0]} x {sides[1]}" if size else None


def _pooling(tower: Tower) -> str:
    own = getattr(tower.encoder, "pooling", None)
    if isinstance(own, str):
        return own
    if getattr(tower.encoder, "pooler", None) is not None:
        return "its own pooler"
    return POOLING.get(class_of(tower.encoder).__name__, "as in its class")
