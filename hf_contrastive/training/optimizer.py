"""Groups of parameters: a learning rate for each tower, block and temperature, weight decay as the Trainer has it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hf_contrastive.temperature import is_scale_or_bias
from hf_contrastive.towers.find import EMBEDDINGS, HEAD, PROJECTION, find_towers, shared_heads


TEMPERATURE, OTHER = "temperature", "other"
_PROJECTION_RATE = f"_{PROJECTION}"


def set_learning_rates(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    logit_scale_learning_rate: float | None = None,
    tower_learning_rates: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
) -> None:
    """
    Split the groups of a new optimizer so that each has one learning rate, and name them.

    The other options of a group, weight decay among them, are those of the group that its parameters come from. The
    projection and head of a tower have its learning rate, the last layer `layer_decay` times it, and each block below
    `layer_decay` times that of the block above, embeddings least.

    Args:
        optimizer (`torch.optim.Optimizer`):
            An optimizer of the model's parameters that has made no step.
        model (`torch.nn.Module`):
            The model, which may be wrapped.
        logit_scale_learning_rate (`float`, *optional*):
            Learning rate of temperature and bias.
        tower_learning_rates (`Mapping[str, float]`, *optional*):
            Learning rates by modality. `<modality>_projection` sets that of a projection alone.
        layer_decay (`float`, *optional*):
            Factor from one block to the one below, from 0 (excluded) to 1.

    Raises:
        ValueError: A rate is for a tower that the model has not, or for one without trained parameters; or the optimizer
            sets learning rates itself.
    """
    rates = dict(tower_learning_rates or {})
    places = _places(model, rates, layer_decay) if rates or layer_decay is not None else {}
    scalars = {id(p) for name, p in model.named_parameters() if is_scale_or_bias(name)}
    used = set()
    groups = []
    for group in optimizer.param_groups:
        parts: dict[tuple[str, float | None, float], list[nn.Parameter]] = {}
        for parameter in group["params"]:
            key: tuple[str, float | None, float] = (OTHER if places else "", None, 1.0)
            if id(parameter) in scalars and logit_scale_learning_rate is not None:
                key = (TEMPERATURE, logit_scale_learning_rate, 1.0)
            elif id(parameter) in places:
                name, rate_name, factor = places[id(parameter)]
                used.add(rate_name)
                key = (name, rates.get(rate_name), factor)
            parts.setdefault(key, []).append(parameter)
        groups += [_with_rate(group, name, rate, factor, params) for (name, rate, factor), params in parts.items()]
    if idle := sorted(set(rates) - used):
        raise ValueError(f"`tower_learning_rates` has a rate for {idle}, where nothing is trained.")
    optimizer.param_groups.clear()
    for group in groups:
        optimizer.add_param_group(group)


def _with_rate(
    group: Mapping[str, Any], name: str, rate: float | None, factor: float, params: list[nn.Parameter]
) -> dict[str, Any]:
    rate = group["lr"] if rate is None else rate
    if factor != 1.0 and rate is None:
        raise ValueError("`layer_decay` needs an optimizer with a learning rate, but this one chooses its own.")
    decay = "decay" if group.get("weight_decay") else "no decay"
    return {
        **group,
        "params": params,
        "lr": rate * factor if factor != 1.0 and rate is not None else rate,
        "name": f"{name}, {decay}" if name else decay,
    }


def _places(
    model: nn.Module, rates: Mapping[str, float], layer_decay: float | None
) -> dict[int, tuple[str, str, float]]:
    """Of each parameter in a tower, by its id: the name of its group, that of its rate, the factor of its rate."""
    towers, shared = find_towers(model), shared_heads(model)
    with_projection = [*(m for m, tower in towers.items() if tower.projection is not None), *shared]
    known = [*towers, *(f"{m}{_PROJECTION_RATE}" for m in with_projection)]
    if unknown := sorted(set(rates) - set(known)):
        raise ValueError(f"`tower_learning_rates` names {unknown}, but the model has {sorted(known)}.")
    decay = 1.0 if layer_decay is None else layer_decay
    places: dict[int, tuple[str, str, float]] = {}
    for modality, tower in towers.items():
        num_layers = len(tower.layers)
        for block in tower.blocks:
            rate_name, depth = modality, 0
            if block.name == PROJECTION and f"{modality}{_PROJECTION_RATE}" in rates:
                rate_name = f"{modality}{_PROJECTION_RATE}"
            elif block.name == EMBEDDINGS:
                depth = num_layers + 1
            elif block.name not in (HEAD, PROJECTION):
                depth = num_layers - int(block.name.rpartition(".")[2])
            # One group per tower where its blocks have one rate.
            apart = layer_decay is not None or rate_name != modality
            name = f"{modality} {block.name}" if apart else modality
            for parameter in block.all_parameters():
                # A parameter that two towers share has the place of the first.
                places.setdefault(id(parameter), (name, rate_name, decay**depth))
    for modality, (owner, head) in shared.items():
        own = f"{modality}{_PROJECTION_RATE}"
        for parameter in head.parameters():
            places[id(parameter)] = (f"{modality} {PROJECTION}", own if own in rates else owner, 1.0)
    return places


def describe_groups(optimizer: torch.optim.Optimizer) -> str:
    """The groups of an optimizer as a table: name, learning rate, weight decay, number of parameters."""
    rows = [("group", "learning rate", "weight decay", "parameters")]
    for group in optimizer.param_groups:
        rate = group.get("initial_lr", group["lr"])
        size = sum(p.numel() for p in group["params"])
        rows.append(
            (
                group["name"],
                f"{rate:.3g}" if rate is not None else "own",
                f"{group.get('weight_decay', 0.0):g}",
                f"{size:,}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"{row[0].ljust(widths[0])}  {numbers}")
    return "\n".join(lines)
