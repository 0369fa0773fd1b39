"""Whose inputs are whose: the names under which a model with several towers takes what they read."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from hf_contrastive.towers.precomputed import CACHED


FEATURES = "features"
# Arguments of an encoder's forward that are no tensors with a row per example.
_NO_INPUTS = ("output_", "return_", "use_", "past_key_values", "interpolate_", "labels", "cache_position", "encoder_")


def inputs_read_by(encoder: nn.Module | None) -> tuple[str, ...]:
    """Names of the tensors that an encoder's forward takes; precomputed features have none."""
    if encoder is None:
        return (FEATURES,)
    parameters = list(inspect.signature(type(encoder).forward).parameters.values())[1:]
    named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL]
    return tuple(name for name in named if not name.startswith(_NO_INPUTS))


class InputNames:
    """
    From a model's inputs to those of its towers.

    `<modality>_<input>` is always right. Without its prefix, an input is that of the one tower that reads it; where
    several do, of the one that reads texts. `cached_<modality>` is what a frozen tower returned earlier.

    Args:
        reads: Inputs of each modality's tower, under the tower's names.
    """

    def __init__(self, reads: Mapping[str, Sequence[str]]) -> None:
        self.reads = {m: tuple(names) for m, names in reads.items()}
        self._places = {f"{CACHED}{m}": (m, CACHED) for m in reads}
        self._places |= {f"{m}_{name}": (m, name) for m, names in reads.items() for name in names}
        for name in dict.fromkeys(name for names in reads.values() for name in names):
            if name != FEATURES and (owner := self._owner(name)) is not None:
                self._places.setdefault(name, (owner, name))

    def _owner(self, name: str) -> str | None:
        readers = [m for m, names in self.reads.items() if name in names]
        texts = [m for m in readers if "input_ids" in self.reads[m]]
        found = readers if len(readers) == 1 else texts
        return found[0] if len(found) == 1 else None

    def name(self, modality: str, name: str) -> str:
        """What the model calls the input `name` of a modality's tower: without prefix where that is clear."""
        return name if self._places.get(name) == (modality, name) else f"{modality}_{name}"

    def split(self, inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """
        The inputs of each tower that has some, under its own names. `None` counts as not given.

        Raises:
            ValueError: An input is nobody's, or it is not clear whose.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, value in inputs.items():
            if value is None:
                continue
            if name not in self._places:
                raise ValueError(self._unknown(name))
            modality, own = self._places[name]
            found.setdefault(modality, {})[own] = value
        return {m: found[m] for m in self.reads if m in found}

    def _unknown(self, name: str) -> str:
        readers = [m for m, names in self.reads.items() if name in names]
        if readers:
            return (
                f"{name!r} could be meant for {readers}: call it {' or '.join(repr(f'{m}_{name}') for m in readers)}."
            )
        known = {m: [self.name(m, own) for own in names] for m, names in self.reads.items()}
        return f"No tower reads the input {name!r}. The inputs of the towers are {known}."
