"""An `evaluate` module for embeddings, as fast as the arrays it is given.

The default path of `evaluate` turns each number into a Python object on its way through an Arrow file, hundreds of times
slower than the statistic itself, and refuses unequal numbers of predictions and references. Here `add_batch` keeps the
arrays, and `compute` joins them, those of other processes too.
"""

from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import datasets
import evaluate
import torch
from torch import Tensor

from hf_contrastive.metrics.arrays import as_embeddings, as_numbers, joined, of_one_precision, stacked
from hf_contrastive.metrics.process_exchange import ProcessExchange


IDS = ("prediction_ids", "reference_ids")
# What the functional core calls what users of a module have given.
NAMES = {
    "predictions": ("x", "queries", "clouds[0]"),
    "references": ("y", "keys", "clouds[1]", "labels"),
    "prediction_ids": ("x_ids", "query_ids"),
    "reference_ids": ("y_ids", "key_ids"),
}


class EmbeddingModule(evaluate.Measurement):
    """Base of this package's modules: `measure` maps the joined embeddings to a dictionary.

    Scripts import this file as a module, not the class: `evaluate` takes the first class it finds in a script.
    """

    description: str
    inputs_description: str
    citation: str
    reference_url: str
    # What must be given: embeddings, or where named in `labels` whole numbers, one a row.
    inputs: tuple[str, ...] = ("predictions", "references")
    labels: tuple[str, ...] = ()
    # What may be given as well: `IDS`, and `others`, the embeddings of further modalities.
    optional: tuple[str, ...] = ()
    # What `compute` leaves out: most measures that take no ids need no pairs, and `evaluate.combine` hands ids to all.
    unused: tuple[str, ...] = IDS
    # Method of each module: one tensor for each of `inputs`, then what is optional by name, and its options.
    measure: Callable[..., dict[str, float]]

    def _info(self) -> evaluate.MeasurementInfo:
        rows, numbers = datasets.List(datasets.Value("float32")), datasets.Value("int64")
        return evaluate.MeasurementInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=self.inputs_description,
            features=datasets.Features({name: numbers if name in self.labels else rows for name in self.inputs}),
            reference_urls=[self.reference_url],
        )

    # `evaluate` 0.4.6 appends to the docstrings of copies of these methods, made from their code alone: a wrapper that
    # checks types at run time, as our tests install, has no docstring in its code.
    @no_type_check
    def add_batch(self, *, predictions: Any = None, references: Any = None, **further: Any) -> None:
        """Keep a batch of embeddings, of shape (rows, width); both sides may have different numbers of rows.

        Args:
            predictions: Embeddings of the first side, as array, tensor or nested list.
            references: What belongs to the second side, where the module takes two.
            further: Where the module takes them, `prediction_ids`, `reference_ids` and `others`.
        """
        given = {"predictions": predictions, "references": references, **further}
        given = {name: value for name, value in given.items() if value is not None}
        # Copies: a loop may fill the same buffer again before `compute` looks at it.
        self._keep({name: value.clone() for name, value in self._checked(given, complete=True).items()})

    @no_type_check
    def add(self, *, prediction: Any = None, reference: Any = None, **further: Any) -> None:
        """Keep one embedding of each side, of shape (width,).

        Args:
            prediction: Embedding of the first side.
            reference: What belongs to the second side, where the module takes two.
            further: Where the module takes them, `prediction_id`, `reference_id` and `others`, one embedding of each.
        """
        row = {"prediction": prediction, "reference": reference, **further}
        others = row.pop("others", None)
        batch = {f"{name}s": [value] for name, value in row.items() if value is not None}
        self.add_batch(**batch, **({} if others is None else {"others": [[other] for other in others]}))

    @no_type_check
    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, float] | None:
        """Measure the embeddings given here and in earlier calls of `add_batch`, which are then forgotten.

        With several processes (`num_process`, `process_id`) those of all of them are measured, on process 0.

        Args:
            predictions: Embeddings of the first side, as array, tensor or nested list of shape (rows, width).
            references: What belongs to the second side, where the module takes two.
            options: Where the module takes them, `prediction_ids`, `reference_ids` and `others`; ids of all rows, or
                of those given here if `add_batch` was given ids too. Options of the measure, see the module's description.

        Returns:
            The values; None on processes other than 0 (which `evaluate.combine` 0.4.6 then fails to merge).
        """
        further = {name: options.pop(name) for name in self.optional if name in options}
        options = {name: value for name, value in options.items() if name not in self.unused}
        # `evaluate.combine` hands both sides to every module, whatever its inputs.
        ours = {"predictions": predictions, "references": references}
        ours = {name: value for name, value in ours.items() if name in self.inputs}
        given = {name: value for name, value in (ours | further).items() if value is not None}
        rows = self._take(given)
        if self.process_id > 0:
            self._exchange().hand_over(rows)
            return None
        if self.num_process > 1:
            rows = stacked([rows, *self._exchange().collect()])
        if not set(self.inputs) <= set(rows):
            raise ValueError(f"The module {self.name!r} has no embeddings yet: pass {' and '.join(self.inputs)}.")
        self._check_ids(rows)
        rows = of_one_precision(rows)
        sides = [rows.pop(name) for name in self.inputs]
        others = [rows.pop(name) for name in sorted(set(rows) - set(self.optional), key=_place)]
        if others:
            options["others"] = others
        try:
            with torch.no_grad():
                return self.measure(*sides, **rows, **options)
        except ValueError as error:
            raise _renamed(error) from error

    def __len__(self) -> int:
        """Rows of predictions that are kept for `compute`."""
        return sum(len(batch) for batch in self._kept.get("predictions", []))

    @property
    def _kept(self) -> dict[str, list[Tensor]]:
        # Not in __init__: `evaluate` builds modules with arguments that are its own affair.
        if not hasattr(self, "_batches"):
            self._batches: dict[str, list[Tensor]] = {}
        return self._batches

    def _keep(self, batch: Mapping[str, Tensor]) -> None:
        for name, value in batch.items():
            self._kept.setdefault(name, []).append(value)

    def _take(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """All rows of this process, joined and forgotten, also where they are refused."""
        try:
            self._keep(self._checked(given, complete=any(name in self.inputs for name in given)))
            return {name: joined(batches, name) for name, batches in self._kept.items()}
        except ValueError as error:
            if self.process_id > 0:
                self._exchange().hand_over({}, error=str(error))
            raise
        finally:
            self._kept.clear()

    def _checked(self, given: Mapping[str, Any], *, complete: bool) -> dict[str, Tensor]:
        names = set(given) - set(self.optional)
        if complete and names != set(self.inputs):
            raise ValueError(
                f"The module {self.name!r} takes {' and '.join(self.inputs)}, but got {', '.join(given) or 'nothing'}."
            )
        flat = {name: value for name, value in given.items() if name != "others"}
        flat |= {f"others[{i}]": value for i, value in enumerate(given.get("others", ()))}
        whole = {*IDS, *self.labels}
        return {
            name: as_numbers(value, name) if name in whole else as_embeddings(value, name)
            for name, value in flat.items()
        }

    def _check_ids(self, rows: Mapping[str, Tensor]) -> None:
        given = [name for name in IDS if name in rows]
        if len(given) == 1:
            raise ValueError(f"`prediction_ids` and `reference_ids` go together, but only `{given[0]}` was given.")
        for ids, side in zip(given, self.inputs, strict=False):
            if len(rows[ids]) != len(rows[side]):
                raise ValueError(
                    f"`{ids}` must hold one id for each of {len(rows[side])} rows of `{side}`, but got {len(rows[ids])}."
                )

    def _exchange(self) -> ProcessExchange:
        return ProcessExchange(
            self.data_dir, self.experiment_id, self.num_process, self.process_id, timeout=self.timeout
        )


def floats(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Python numbers, as `evaluate` wants to save them."""
    return {f"{prefix}{name}": float(value) for name, value in values.items()}


def _place(name: str) -> int:
    return int(name.removeprefix("others[").removesuffix("]"))


def _renamed(error: ValueError) -> ValueError:
    message = str(error)
    for theirs, ours in NAMES.items():
        for name in ours:
            message = message.replace(f"`{name}`", f"`{theirs}`")
    return type(error)(message)
