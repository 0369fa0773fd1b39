"""A weighted sum of losses, written in YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch
from hf_contrastive.losses.registry import ContrastiveLoss, read_loss, register_loss, uses_bias
from hf_contrastive.losses.schedule import Schedule, as_schedule


@register_loss(
    "weighted_sum",
    formula=r"\sum_k w_k L_k",
)
@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """Several losses added up, each with a weight that may change during training.

    Each part has the `name` of a loss, its options under `options`, a `weight` (a number, by default 1, or the arguments
    of a [`Schedule`]), and a `label` for logs (by default the name):

    ```yaml
    loss: weighted_sum
    loss_kwargs:
      parts:
        - {name: clip}
        - {name: align_uniform, weight: {start: 0, end: 0.5, shape: cosine, begin: 0.5}, options: {t: 10}}
    ```

    Terms are named `<label>/<term>`, weights in. A part whose weight is zero for now is computed and logged as zero.

    Args:
        parts: The losses.
    """

    parts: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        # Built once here, for the errors; a list from YAML becomes a tuple, so that the loss can be hashed and compared.
        built = tuple(_Part.read(part) for part in self.parts)
        if not built:
            raise ValueError("`parts` must name at least one loss, but is empty.")
        labels = [part.label for part in built]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"Two of `parts` are called {', '.join(twice)}. Give each a `label` of its own.")
        object.__setattr__(self, "_built", built)

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]:
        built: tuple[_Part, ...] = self._built  # type: ignore[attr-defined]
        return {
            f"{part.label}/{name}": part.weight.at(batch.progress) * value
            for part in built
            for name, value in part.loss(batch).items()
        }

    @property
    def inner_losses(self) -> tuple[ContrastiveLoss, ...]:
        """The parts."""
        built: tuple[_Part, ...] = self._built  # type: ignore[attr-defined]
        return tuple(part.loss for part in built)

    @property
    def uses_bias(self) -> bool:
        """Whether any of the parts reads the model's bias."""
        built: tuple[_Part, ...] = self._built  # type: ignore[attr-defined]
        return any(uses_bias(part.loss) for part in built)


@dataclass(frozen=True)
class _Part:
    label: str
    weight: Schedule
    loss: ContrastiveLoss

    @classmethod
    def read(cls, part: Mapping[str, Any]) -> "_Part":
        unknown = set(part) - {"name", "options", "weight", "label"}
        if unknown:
            raise ValueError(
                "Each of `parts` has `name` and optionally `options`, `weight` and `label`, but one has "
                f"{', '.join(map(str, part))}."
            )
        loss = read_loss({key: part[key] for key in ("name", "options") if key in part}, "parts")
        label = part.get("label", part["name"])
        return cls(label, as_schedule(part.get("weight", 1.0), f"weight of {label}"), loss)
