"""What an evaluator is: a function of an encoder, which embeds raw values of one modality."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from hf_contrastive.distributed import rank


@runtime_checkable
class Encoder(Protocol):
    """Embeds raw values, such as texts or pictures."""

    def __call__(self, modality: str, values: Sequence[Any]) -> Float[Tensor, "n d"]:
        """Unit embeddings on the CPU, row i that of value i, the same on every process."""


@runtime_checkable
class Evaluator(Protocol):
    """
    Measures a model.

    Called on every process with an encoder that shares the work among them, so an evaluator knows no process group.
    Names of metrics begin with that of the evaluator, as `zeroshot/top1`; the trainer puts `eval_` before them.
    """

    def __call__(self, encode: Encoder) -> dict[str, float]:
        """Metrics by name."""


def refuse_equal_names(evaluators: Sequence[Evaluator]) -> None:
    """Raise a ValueError if two evaluators would report under one name."""
    names = [name for evaluator in evaluators if (name := getattr(evaluator, "name", None)) is not None]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Two of the `evaluators` are called {twice[0]!r}: give each a `name` of its own.")


def evaluate_all(evaluators: Sequence[Evaluator], encode: Encoder, *, progress: bool = False) -> dict[str, float]:
    """Metrics of all evaluators.

    Raises:
        ValueError: Two evaluators report a metric of one name.
    """
    found: dict[str, float] = {}
    bar = tqdm(evaluators, desc="evaluators", leave=False, disable=not progress or rank() != 0)
    for evaluator in bar:
        bar.set_postfix_str(getattr(evaluator, "name", type(evaluator).__name__))
        metrics = evaluator(encode)
        if twice := sorted(found.keys() & metrics.keys()):
            raise ValueError(f"Two of the `evaluators` report {twice[0]!r}: give each a `name` of its own.")
        found |= metrics
    return found
