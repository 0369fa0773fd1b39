"""`get_<modality>_features`, as dual encoders of `transformers` have them."""

from inspect import Parameter, Signature
from typing import Any

from transformers.modeling_outputs import BaseModelOutputWithPooling


class FeatureMethodsMixin:
    """A method for each modality of a model that has `_features`."""

    def __getattr__(self, name: str) -> Any:
        config = vars(self).get("config")
        if config is not None and name.startswith("get_") and name.endswith("_features"):
            modality = name.removeprefix("get_").removesuffix("_features")
            if modality in config.modalities:
                return self._features_method(modality)
        base: Any = super()
        return base.__getattr__(name)

    def _features_method(self, modality: str) -> Any:
        model: Any = self

        def get_features(**inputs: Any) -> BaseModelOutputWithPooling:
            given = model._inputs.split(inputs)
            if set(given) != {modality}:
                raise ValueError(
                    f"`get_{modality}_features` takes inputs of {modality!r}, but got those of {list(given)}."
                )
            features: BaseModelOutputWithPooling = model._features(modality, given[modality])
            return features

        own = model.inputs_of(modality)
        names = {name for x in own for name in (f"{modality}_{x}", model.input_name(modality, x))}
        # Callers look up what it reads.
        get_features.__signature__ = Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in sorted(names)])  # type: ignore[attr-defined]
        return get_features
