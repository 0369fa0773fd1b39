"""An `evaluate` module for embeddings, as fast as the arrays it is given.

The default path of `evaluate` turns each number into a Python object on its way through an Arrow file, hundreds of times
slower than the statistic itself, and refuses unequal numbers of predictions and references. Here `add_batch` keeps the
arrays and `compute` joins them.
"""

from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor


class EmbeddingModule(evaluate.Measurement):
    """Base of this package's modules: `measure` maps the joined embeddings to a dictionary.

    Scripts import this file as a module, not the class: `evaluate` takes the first class it finds in a script.
    """

    description: str
    inputs_description: str
    citation: str
    reference_url: str
    inputs: tuple[str, ...] = ("predictions", "references")
    # Method of each module: one tensor for each of `inputs`, then its options.
    measure: Callable[..., dict[str, float]]

    def _info(self) -> evaluate.MeasurementInfo:
        rows = datasets.List(datasets.Value("float32"))
        return evaluate.MeasurementInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=self.inputs_description,
            features=datasets.Features(dict.fromkeys(self.inputs, rows)),
            reference_urls=[self.reference_url],
        )

    # `evaluate` 0.4.6 appends to the docstrings of copies of these methods, made from their code alone: a wrapper that
    # checks types at run time, as our tests install, has no docstring in its code.
    @no_type_check
    def add_batch(self, *, predictions: Any = None, references: Any = None, **unknown: Any) -> None:
        """Keep a batch of embeddings, of shape (rows, width); both sides may have different numbers of rows.

        Args:
            predictions: Embeddings of the first side, as array, tensor or nested list.
            references: Embeddings of the second side, where the module takes two.
            unknown: Nothing else is taken.
        """
        given = {"predictions": predictions, "references": references, **unknown}
        given = {name: value for name, value in given.items() if value is not None}
        if set(given) != set(self.inputs):
            raise ValueError(
                f"The module {self.name!r} takes {' and '.join(self.inputs)}, but got {', '.join(given) or 'nothing'}."
            )
        # Copies: a loop may fill the same buffer again before `compute` looks at it.
        batch = {name: _as_tensor(value, name).clone() for name, value in given.items()}
        for name, value in batch.items():
            self._kept.setdefault(name, []).append(value)

    @no_type_check
    def add(self, *, prediction: Any = None, reference: Any = None, **unknown: Any) -> None:
        """Keep one embedding of each side, of shape (width,).

        Args:
            prediction: Embedding of the first side.
            reference: Embedding of the second side, where the module takes two.
            unknown: Nothing else is taken.
        """
        sides = {"predictions": prediction, "references": reference}
        self.add_batch(**{name: [row] for name, row in sides.items() if row is not None}, **unknown)

    @no_type_check
    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, float]:
        """Measure the embeddings given here and in earlier calls of `add_batch`, which are then forgotten.

        Args:
            predictions: Embeddings of the first side, as array, tensor or nested list of shape (rows, width).
            references: Embeddings of the second side, where the module takes two.
            options: Options of the measure, see the module's description.
        """
        if self.num_process > 1:
            raise ValueError(
                f"The module {self.name!r} does not join processes, but was loaded with num_process="
                f"{self.num_process}. Gather the embeddings first, for example with `accelerator.gather_for_metrics`."
            )
        kept = dict(self._kept)
        self._kept.clear()
        # `evaluate.combine` hands both sides to every module, whatever its inputs.
        sides = {"predictions": predictions, "references": references}
        given = {name: value for name, value in sides.items() if value is not None and name in self.inputs}
        if given and set(given) != set(self.inputs):
            raise ValueError(
                f"The module {self.name!r} takes {' and '.join(self.inputs)}, but got {', '.join(given)}."
            )
        batches = {name: [*kept.get(name, []), *_as_batches(given, name)] for name in self.inputs}
        if not all(batches.values()):
            raise ValueError(f"The module {self.name!r} has no embeddings yet: pass {' and '.join(self.inputs)}.")
        with torch.no_grad():
            return self.measure(*(_joined(batches[name], name) for name in self.inputs), **options)

    @property
    def _kept(self) -> dict[str, list[Tensor]]:
        # Not in __init__: `evaluate` builds modules with arguments that are its own affair.
        if not hasattr(self, "_batches"):
            self._batches: dict[str, list[Tensor]] = {}
        return self._batches


def floats(values: Mapping[str, Any]) -> dict[str, float]:
    """Python numbers, as `evaluate` wants to save them."""
    return {name: float(value) for name, value in values.items()}


def _as_batches(given: Mapping[str, Any], name: str) -> list[Tensor]:
    return [_as_tensor(given[name], name)] if name in given else []


def _as_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        tensor = value.detach()
    else:
        try:
            array = np.asarray(value)
            # Whole numbers would be refused; single precision is what embeddings have.
            tensor = torch.from_numpy(array.astype(np.float32) if array.dtype.kind in "iu" else array)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must hold rows of numbers, all of one length: {error}") from error
    if tensor.dim() != 2:
        raise ValueError(f"`{name}` must have shape (rows, width), but got shape {list(tensor.shape)}.")
    return tensor


def _joined(batches: list[Tensor], name: str) -> Tensor:
    widths = {batch.shape[1] for batch in batches}
    if len(widths) > 1:
        raise ValueError(f"`{name}` must have one width in all batches, but got {sorted(widths)}.")
    return batches[0] if len(batches) == 1 else torch.cat(batches)
