"""Which towers a [`MultiEncoder`] has, as `config.json` keeps it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

# Not from `transformers`: this module is loaded while that is, see auto.py.
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig


POOLINGS = ("cls", "mean", "last", "attention", "pooler")
HEADS = ("linear", "mlp", "none")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# What towers are never called, see towers/find.py.
_TAKEN = ("vision", "visual", "multimodal", "fusion", "base")
# What is done before the first configuration is made.
BEFORE_FIRST: list[Callable[[], None]] = []


@dataclass
class ModalityConfig:
    """
    How one modality becomes an embedding.

    Args:
        tower ([`~transformers.PreTrainedConfig`] or `dict`, *optional*):
            Configuration of its encoder, with its `model_type`. By default the modality is precomputed features.
        architecture (`str`, *optional*):
            Class of the encoder in `transformers`, where it is another than the one `AutoModel` makes.
        pooling (`str`, *optional*):
            From the encoder's output to one vector: `"cls"`, `"mean"`, `"last"` (token), `"attention"` (learned) or
            `"pooler"`, the encoder's own. By default found from the architecture when the model is built.
        head (`str`, *optional*):
            From that vector to the joint space: `"linear"`, `"mlp"` or `"none"`. By default linear, or the head of the
            tower that is shared.
        features (`int`, *optional*):
            Width of that vector, found when the model is built. Precomputed features must say it.
        shared_with (`str`, *optional*):
            Modality whose tower this one uses.
        unused (`list[str]`, *optional*):
            Parameters of the encoder that its vector does not depend on, found when the model is built. They are frozen.
        base (`str`, *optional*):
            Hub id of the model that the weights came from, for cards; `"."` if it was none of the Hub's. By default they
            are new.

    Raises:
        ValueError: A value is none of those allowed, or the encoder is unknown to `transformers`.
    """

    tower: Any = None
    architecture: str | None = None
    pooling: str | None = None
    head: str | None = None
    features: int | None = None
    shared_with: str | None = None
    unused: list[str] | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        for name, given, allowed in (("pooling", self.pooling, POOLINGS), ("head", self.head, HEADS)):
            if given is not None and given not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, but got {given!r}.")
        if self.features is not None and (type(self.features) is not int or self.features < 1):
            raise ValueError(f"`features` must be a positive width, but got {self.features!r}.")
        if self.shared_with is not None:
            if self.tower is not None or self.pooling is not None:
                raise ValueError(
                    f"A tower that is shared with {self.shared_with!r} has no `tower` and `pooling` of its own."
                )
            return
        self.head = self.head or "linear"
        if isinstance(self.tower, Mapping):
            self.tower = _known_config(self.tower)
        if self.tower is None and self.features is None:
            raise ValueError(
                "A modality has a `tower`, is `shared_with` another, or is precomputed of width `features`."
            )

    def to_dict(self) -> dict[str, Any]:
        """What differs from nothing, ready for JSON."""
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "tower"}
        kept = {name: value for name, value in kept.items() if value not in (None, [])}
        if self.tower is None:
            return kept
        tower = self.tower.to_dict()
        # The precision is that of the whole model; where a tower was on somebody's disk concerns nobody.
        return {
            "tower": {n: x for n, x in tower.items() if n not in ("transformers_version", "dtype", "_name_or_path")},
            **kept,
        }


class MultiEncoderConfig(PreTrainedConfig):
    """
    Configuration of a [`MultiEncoder`].

    Args:
        modalities (`dict[str, ModalityConfig]` or `dict[str, dict]`, *optional*):
            By name of the modality, see [`ModalityConfig`]: two or more.
        width (`int`, *optional*, defaults to 512):
            Width of the joint space.
        logit_scale_init_value (`float`, *optional*, defaults to `log(1 / 0.07)`):
            Initial log inverse temperature.
        logit_bias_init_value (`float`, *optional*):
            Initial bias of the logits, for sigmoid losses. By default there is none.
        scale_per_pair (`bool`, *optional*, defaults to `False`):
            Whether each pair of modalities has a temperature (and bias) of its own, in alphabetical order.

    Raises:
        ValueError: A modality has a name that cannot be one or a configuration that is not understood. Code of a
            repository is never run: `auto_map` is refused.
    """

    model_type = "multi_encoder"

    def __init__(
        self,
        modalities: Mapping[str, Any] | None = None,
        width: int = 512,
        logit_scale_init_value: float = math.log(1 / 0.07),
        logit_bias_init_value: float | None = None,
        scale_per_pair: bool = False,
        **kwargs: Any,
    ) -> None:
        while BEFORE_FIRST:
            BEFORE_FIRST.pop()()
        refuse_code(kwargs, "The configuration")
        if type(width) is not int or width < 1:
            raise ValueError(f"`width` must be a positive number of dimensions, but got {width!r}.")
        # The base class sets the attention of all towers that it sees, also those that run with another.
        self.modalities: dict[str, ModalityConfig] = {}
        self.width = width
        self.logit_scale_init_value, self.logit_bias_init_value = logit_scale_init_value, logit_bias_init_value
        self.scale_per_pair = scale_per_pair
        super().__init__(**kwargs)
        given = modalities or {}
        self.modalities = {name: _modality(name, given[name]) for name in sorted(given)}
        for name, modality in self.modalities.items():
            self._check_sharing(name, modality.shared_with)
        if (attention := kwargs.get("attn_implementation")) is not None:
            self._attn_implementation = attention

    def _check_sharing(self, name: str, other: str | None) -> None:
        owners = [m for m, modality in self.modalities.items() if modality.tower is not None]
        if other is not None and other not in owners:
            raise ValueError(f"`shared_with` of {name!r} must be one of the towers {owners}, but got {other!r}.")

    @property
    def sub_configs(self) -> dict[str, Any]:
        """Attributes that hold the configurations of towers, as `transformers` passes precision and attention to them."""
        return {f"{name}_config": AutoConfig for name, _ in self._towers()}

    @property
    def hidden_size(self) -> int:
        """Width of the widest tower, after which DeepSpeed sizes its buckets."""
        return max([self.width, *(modality.features or 0 for modality in self.modalities.values())])

    def __getattr__(self, name: str) -> Any:
        for modality, tower in self._towers():
            if name == f"{modality}_config":
                return tower
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _towers(self) -> Iterator[tuple[str, Any]]:
        for name, modality in (vars(self).get("modalities") or {}).items():
            if modality.tower is not None:
                yield name, modality.tower

    def to_dict(self) -> dict[str, Any]:
        modalities, self.modalities = self.modalities, {}
        try:
            output: dict[str, Any] = super().to_dict()
        finally:
            self.modalities = modalities
        return output | {"modalities": {name: modality.to_dict() for name, modality in modalities.items()}}


def refuse_code(given: Any, what: str) -> None:
    """Raise a ValueError if a configuration, or one inside of it, names code of a repository."""
    if isinstance(given, Mapping):
        if "auto_map" in given:
            raise ValueError(
                f"{what} has an `auto_map`, code that its repository brings along. It is never run: use an architecture of "
                "`transformers`, or register your own with `AutoConfig.register` and remove the entry."
            )
        for value in given.values():
            refuse_code(value, what)
    elif isinstance(given, (list, tuple)):
        for value in given:
            refuse_code(value, what)


def check_name(name: Any) -> str:
    """The name of a modality; a ValueError if it cannot be one. Names become attributes, inputs and folders."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
        raise ValueError(
            f"A modality is named in lower case, such as 'image' or 'text', none of {', '.join(_TAKEN)}, but got {name!r}."
        )
    return name


def _modality(name: str, given: Any) -> ModalityConfig:
    check_name(name)
    if isinstance(given, ModalityConfig):
        return given
    if not isinstance(given, Mapping) or (
        unknown := sorted(set(given) - {field.name for field in fields(ModalityConfig)})
    ):
        wrong = unknown if isinstance(given, Mapping) else given
        raise ValueError(
            f"The modality {name!r} has the entries of a ModalityConfig, but got {wrong!r}. Those of a newer version "
            "may change what a model returns, so they are not passed over."
        )
    try:
        return ModalityConfig(**given)
    except ValueError as error:
        raise ValueError(f"Modality {name!r}: {error}") from error


def _known_config(given: Mapping[str, Any]) -> PreTrainedConfig:
    refuse_code(given, "The configuration of the tower")
    model_type = given.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"`transformers` knows no architecture with the `model_type` {model_type!r} that its tower's configuration names."
        )
    return AutoConfig.for_model(**given)
