"""The towers of a model, found from its architecture: an encoder per modality, its blocks in order, its projection."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule


# How `transformers` names the encoders of dual encoders: `vision_model`, `text_model`, `audio_model`.
ENCODER = re.compile(r"^(?P<stem>\w+)_(?:model|encoder|tower)$")
# Encoders of several modalities at once, which are no towers.
JOINT = ("multimodal", "fusion", "base")
EMBEDDINGS, HEAD, PROJECTION = "embeddings", "head", "projection"


@dataclass(frozen=True)
class Block:
    """Parts of a tower that one learning rate or one decision to freeze applies to.

    Args:
        name: `embeddings`, `layer.0`, ..., `head` or `projection`.
        modules: Modules of the block.
        parameters: Parameters of the block that belong to none of its modules, such as a class token.
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...] = ()

    def all_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the block, trainable or not."""
        yield from self.parameters
        for module in self.modules:
            yield from module.parameters()


@dataclass(frozen=True)
class Tower:
    """One encoder of a model and its way into the joint space.

    Args:
        modality: Name of the modality as in the model's `<modality>_embeds`.
        encoder_name: Attribute of the model that holds the encoder.
        encoder: The encoder.
        projection: Module after the encoder, or None where the encoder ends in the joint space, as in SigLIP.
    """

    modality: str
    encoder_name: str
    encoder: nn.Module
    projection: nn.Module | None

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """From the input to the output: embeddings, layers, head (final norm, pooler), projection.

        Blocks without parameters are left out.
        """
        return _blocks(self.encoder, self.projection)

    @property
    def layers(self) -> list[Block]:
        """The layers of the encoder, from the input up."""
        return [block for block in self.blocks if block.name.startswith("layer.")]


def base_model(model: nn.Module) -> nn.Module:
    """The model below what `torch.compile` and `peft` put around it, or the model itself."""
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def class_of(module: nn.Module) -> type:
    """The class of a module as it was written, below the one that FSDP2 makes of it."""
    return next(cls for cls in type(module).__mro__ if not issubclass(cls, FSDPModule))


def find_towers(model: nn.Module) -> dict[str, Tower]:
    """
    The towers of a model, by modality.

    A tower is a submodule `<modality>_model` (or `_encoder`, `_tower`) with, where it has one, its
    `<modality>_projection`. `vision` is called `image` (`video`, if that is what the model embeds), as in the names of
    embeddings.

    Args:
        model (`torch.nn.Module`):
            CLIP, SigLIP, a vision-text dual encoder or any model built like them, with any number of towers; it may be
            wrapped by `peft`.

    Raises:
        ValueError: The model has no such submodule.
    """
    model = base_model(model)
    towers = {}
    for name, encoder in model.named_children():
        match = ENCODER.match(name)
        if match and match["stem"] not in JOINT:
            modality = _modality(model, match["stem"])
            towers[modality] = Tower(modality, name, encoder, _projection(model, match["stem"]))
    if not towers:
        raise ValueError(
            f"{type(model).__name__} has no towers: none of its parts {[name for name, _ in model.named_children()]} is "
            "called `<modality>_model`."
        )
    return towers


def shared_heads(model: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Of each modality that has a projection of its own behind the tower of another: that other, and the projection."""
    model = base_model(model)
    modalities = getattr(getattr(model, "config", None), "modalities", None)
    owners = {m: getattr(settings, "shared_with", None) for m, settings in dict(modalities or {}).items()}
    found = {m: (owner, getattr(model, f"{m}_projection", None)) for m, owner in owners.items() if owner is not None}
    return {m: (owner, head) for m, (owner, head) in found.items() if isinstance(head, nn.Module)}


def find_tower(model: nn.Module, modality: str, argument: str) -> Tower:
    """The tower of a modality that was given as `argument`; a ValueError says which there are if it is none of them."""
    towers = find_towers(model)
    if modality not in towers:
        raise ValueError(
            f"`{argument}` names the tower {modality!r}, but {type(base_model(model)).__name__} has the towers "
            f"{sorted(towers)}."
        )
    return towers[modality]


def _modality(model: nn.Module, stem: str) -> str:
    if stem not in ("vision", "visual"):
        return stem
    of_videos = hasattr(model, "get_video_features") and not hasattr(model, "get_image_features")
    return "video" if of_videos else "image"


def _projection(model: nn.Module, stem: str) -> nn.Module | None:
    stems = (stem, "visual", "vision") if stem in ("vision", "visual") else (stem,)
    names = [f"{first}_{last}" for first in stems for last in ("projection", "proj")]
    found = [part for name in names if isinstance(part := getattr(model, name, None), nn.Module)]
    return found[0] if found else None


def _blocks(encoder: nn.Module, projection: nn.Module | None) -> tuple[Block, ...]:
    stack, layers = _stack(encoder)
    before: list[Any] = []
    after: list[Any] = []
    seen = False
    for name, part in _around(encoder, stack):
        if part is stack:
            seen = True
        elif not seen or _is_input(name):
            before.append(part)
        else:
            after.append(part)
    blocks = [
        _block(EMBEDDINGS, before),
        *(_block(f"layer.{number}", [layer]) for number, layer in enumerate(layers)),
        _block(HEAD, after),
        _block(PROJECTION, [] if projection is None else [projection]),
    ]
    return tuple(block for block in blocks if any(True for _ in block.all_parameters()))


def _block(name: str, parts: list[Any]) -> Block:
    modules = tuple(part for part in parts if isinstance(part, nn.Module))
    return Block(name, modules, tuple(part for part in parts if isinstance(part, nn.Parameter)))


def _stack(encoder: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The list of layers of an encoder: its biggest one that lies in no other. Else all of the encoder is one layer."""
    lists: list[nn.Module] = []

    def search(module: nn.Module, kind: type[nn.Module]) -> None:
        for child in module.children():
            if isinstance(child, kind):
                lists.append(child)
            else:
                search(child, kind)

    search(encoder, nn.ModuleList)
    if not lists and isinstance(encoder, nn.Sequential):
        lists = [encoder]
    if not lists:
        search(encoder, nn.Sequential)
    sizes = [sum(p.numel() for p in one.parameters()) for one in lists]
    if not sizes or not max(sizes):
        return encoder, [encoder]
    stack = lists[sizes.index(max(sizes))]
    return stack, [layer for layer in stack.children() if any(True for _ in layer.parameters())]


def _around(encoder: nn.Module, stack: nn.Module) -> Iterator[tuple[str, Any]]:
    """Modules and own parameters of the encoder, with `stack` among them, in the order in which they were made."""
    if encoder is stack:
        yield "", stack
        return
    yield from encoder.named_parameters(recurse=False)
    for name, child in encoder.named_children():
        if child is not stack and any(part is stack for part in child.modules()):
            yield from _around(child, stack)
        else:
            yield name, child


def _is_input(name: str) -> bool:
    """Whether a part that was made after the layers comes before them all the same."""
    return "embed" in name or "position" in name or "relative_attention" in name
