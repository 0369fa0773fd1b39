"""Locked towers: their weights stay, their dropout is off, their activations are not kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from hf_contrastive.towers.find import PROJECTION, Tower, find_tower, shared_heads


# Attribute of a frozen encoder while its forward runs.
_GRAD_BEFORE = "_grad_was_enabled_before"


def freeze_towers(
    model: nn.Module,
    names: Sequence[str] = (),
    *,
    unfreeze_last: Mapping[str, int] | None = None,
    projections: Sequence[str] = (),
) -> None:
    """
    Freeze towers of a model, as in locked-image tuning (LiT).

    What is frozen stays in evaluation mode when `model.train()` is called, and a tower that is frozen as a whole runs
    without a graph. To undo it, call `requires_grad_(True)` on the tower: its mode and graph follow its parameters.
    Adapters inside of a frozen tower are frozen as well.

    Args:
        model (`torch.nn.Module`):
            A model with towers, see [`find_towers`].
        names (`Sequence[str]`):
            Modalities whose encoders are frozen. Projections stay trainable.
        unfreeze_last (`Mapping[str, int]`, *optional*):
            By modality, how many of the last layers stay as they are, with all that comes after them; the rest of the
            tower is frozen.
        projections (`Sequence[str]`):
            Modalities whose projection is frozen.

    Raises:
        ValueError: A modality is none of the model's, has fewer layers than asked for or no projection to freeze.
    """
    kept = dict.fromkeys(names, 0) | dict(unfreeze_last or {})
    for modality, num_last in kept.items():
        tower = find_tower(model, modality, "unfreeze_last" if modality in (unfreeze_last or {}) else "freeze_towers")
        _freeze_encoder(tower, num_last)
    shared = shared_heads(model)
    for modality in projections:
        if modality in shared:
            shared[modality][1].requires_grad_(False)
            continue
        tower = find_tower(model, modality, "freeze_projections")
        if tower.projection is None:
            raise ValueError(
                f"`freeze_projections` names {modality!r}, whose tower has no projection: `freeze_towers` freezes all of it."
            )
        tower.projection.requires_grad_(False)


def _freeze_encoder(tower: Tower, num_last: int) -> None:
    blocks = [block for block in tower.blocks if block.name != PROJECTION]
    num_layers = len(tower.layers)
    if not 0 <= num_last <= num_layers:
        raise ValueError(
            f"`unfreeze_last` must be from 0 to the {num_layers} layers of the {tower.modality} tower, but got {num_last}."
        )
    if num_last:
        blocks = blocks[: blocks.index(tower.layers[num_layers - num_last])]
    for block in blocks:
        for parameter in block.all_parameters():
            parameter.requires_grad_(False)
    if num_last == 0:
        # Parts that belong to no block, if there are any.
        tower.encoder.requires_grad_(False)
    if _enter not in tower.encoder._forward_pre_hooks.values():
        tower.encoder.register_forward_pre_hook(_enter)
        # Called after an exception too: gradients must not stay off.
        tower.encoder.register_forward_hook(_leave, always_call=True)


def rest_frozen(model: nn.Module) -> None:
    """Put what [`freeze_towers`] froze in evaluation mode now, which the next forward would do."""
    for module in model.modules():
        if module.training and _enter in module._forward_pre_hooks.values():
            module.eval() if is_frozen(module) else _rest(module)


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters and none of them is trained."""
    found = False
    for parameter in module.parameters():
        if parameter.requires_grad:
            return False
        found = True
    return found


def _enter(encoder: nn.Module, _: Any) -> None:
    rest_frozen(encoder)
    if is_frozen(encoder):
        setattr(encoder, _GRAD_BEFORE, torch.is_grad_enabled())
        torch.set_grad_enabled(False)


def _leave(encoder: nn.Module, *_: Any) -> None:
    before = encoder.__dict__.pop(_GRAD_BEFORE, None)
    if before is not None:
        torch.set_grad_enabled(before)


def _rest(module: nn.Module) -> None:
    """Put what is frozen in a module, which is not as a whole, in evaluation mode."""
    for child in module.children():
        if is_frozen(child):
            child.eval()
        else:
            _rest(child)
