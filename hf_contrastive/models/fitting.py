"""From what a user calls a tower to an encoder that is known to work."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_contrastive.models.architectures import architecture_of, base_of, build_encoder, load_encoder, set_up
from hf_contrastive.models.configuration import ModalityConfig
from hf_contrastive.models.heads import make_head
from hf_contrastive.models.probe import is_real, probe
from hf_contrastive.models.saved_pooling import saved_pooling


logger = logging.get_logger(__name__)


def plan_towers(
    towers: Mapping[str, Any],
    pooling: str | Mapping[str, str] | None,
    head: str | Mapping[str, str],
    shared: Mapping[str, str],
    tower_kwargs: Mapping[str, Any],
) -> tuple[dict[str, ModalityConfig], dict[str, PreTrainedModel]]:
    """The modalities and encoders that the arguments of [`MultiEncoder.from_towers`] ask for."""
    for argument, given, known in (("pooling", pooling, {*towers}), ("head", head, {*towers, *shared})):
        if isinstance(given, Mapping) and (unknown := sorted(set(given) - known)):
            raise ValueError(f"`{argument}` is for {unknown}, but the modalities are {sorted(known)}.")
    if both := sorted(set(towers) & set(shared)):
        raise ValueError(f"`shared` has {both}, which have towers of their own.")
    encoders = {m: load_encoder(m, x, **tower_kwargs) for m, x in towers.items() if type(x) is not int}
    _refuse_twins(encoders)
    modalities = {}
    for name, source in towers.items():
        settings: dict[str, Any] = {"head": _of(head, name, "linear")}
        if (encoder := encoders.get(name)) is None:
            settings["features"] = source
        else:
            settings |= {
                "tower": encoder.config,
                "architecture": architecture_of(encoder),
                "pooling": _of(pooling, name) or saved_pooling(source, tower_kwargs),
                "base": base_of(source),
            }
        modalities[name] = ModalityConfig(**settings)
    for name, other in shared.items():
        modalities[name] = ModalityConfig(
            shared_with=other, head=head.get(name) if isinstance(head, Mapping) else None
        )
    return modalities, encoders


def fit_encoder(name: str, modality: ModalityConfig, given: PreTrainedModel | None = None) -> nn.Module:
    """
    The encoder of a modality, new or given, as its configuration says; what that leaves open is found and filled in.

    Raises:
        ValueError: It cannot be pooled, or something is open while there are no weights to try it with.
    """
    if modality.tower is None:
        return nn.Identity()
    encoder = build_encoder(modality.tower, modality.architecture) if given is None else given
    set_up(encoder)
    modality.tower = encoder.config
    if is_real(encoder):
        found = probe(name, encoder, modality.pooling)
        modality.pooling, modality.features, modality.unused = found.pooling, found.features, found.unused or None
    elif modality.pooling is None or modality.features is None:
        raise ValueError(
            f"The configuration of the {name} tower must say its `pooling` and its `features`, the width of what is "
            "pooled, for a model without weights."
        )
    # An own pooling that is not used goes, where the architecture can do without: adapters would train it in vain.
    if modality.pooling != "pooler" and "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters:
        encoder.pooler = None
        modality.unused = [unused for unused in modality.unused or () if not unused.startswith("pooler.")]
    freeze(encoder, modality.unused or ())
    if given is not None and modality.unused:
        logger.info(f"The embedding of the {name} tower does not depend on {modality.unused}, which stay as they are.")
    return encoder


def fit_head(name: str, modality: ModalityConfig, tower: ModalityConfig, width: int) -> nn.Module | None:
    """The head of a modality behind `tower`, its own or the one it shares, or None where nothing follows."""
    try:
        attention = tower.pooling == "attention"
        return make_head(modality.head or "linear", tower.features or 0, width, attention=attention)
    except ValueError as error:
        raise ValueError(f"Modality {name!r}: {error}") from error


def freeze(module: nn.Module, names: Sequence[str]) -> None:
    """Make the parameters of these names untrainable, those of them that a module has."""
    parameters = dict(module.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].requires_grad_(False)


def _refuse_twins(encoders: Mapping[str, PreTrainedModel]) -> None:
    """Raise a ValueError if two modalities have one encoder, whose weights would be saved under one name."""
    first: dict[int, str] = {}
    for name, encoder in encoders.items():
        other = first.setdefault(id(encoder), name)
        if other != name:
            raise ValueError(
                f"{other!r} and {name!r} have the same model as their tower: give it once, with "
                f"`shared={{{name!r}: {other!r}}}`, or a copy if each is to be trained on its own."
            )


def _of(given: str | Mapping[str, str] | None, name: str, default: str | None = None) -> str | None:
    return given.get(name, default) if isinstance(given, Mapping) else given
