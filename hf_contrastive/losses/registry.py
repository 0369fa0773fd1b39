"""Losses by name, so that a YAML file can choose one."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from importlib.metadata import entry_points
from operator import add
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from hf_contrastive.batch import ContrastiveBatch


ENTRY_POINT_GROUP = "hf_contrastive.losses"


@runtime_checkable
class ContrastiveLoss(Protocol):
    """Maps a batch to named terms whose sum is minimized, weights already in.

    A loss has no parameters: temperature and bias belong to the model, which saves and shares them. Each term is this
    process's share of the world's term: the mean over processes is the value that a single process would compute on
    the whole batch. [`hf_contrastive.testing.check_loss`] proves that, and its gradient, for any loss.

    A loss that reads the bias says so by an attribute `uses_bias = True`, see [`uses_bias`].
    """

    def __call__(self, batch: ContrastiveBatch) -> dict[str, Float[Tensor, ""]]: ...


def uses_bias(loss: ContrastiveLoss) -> bool:
    """Whether a loss says that it reads the model's bias, so that the bias should start where the batch wants it."""
    return bool(getattr(loss, "uses_bias", False))


def total(terms: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """The scalar to minimize: the sum of the terms.

    Raises:
        TypeError: A term is no tensor.
        ValueError: There is no term, or one has dimensions.
    """
    if not terms:
        raise ValueError("A loss must return a term or more, by name, but returned none.")
    for name, term in terms.items():
        if not isinstance(term, Tensor):
            raise TypeError(
                f"Terms of a loss must be tensors without dimensions, but {name!r} is the {type(term).__name__} {term!r}. "
                "Where there is nothing to minimize, return zero with a graph, such as `logit_scale * 0`."
            )
        if term.dim() != 0:
            raise ValueError(
                f"Terms of a loss must be tensors without dimensions, but {name!r} has shape {list(term.shape)}."
            )
    return reduce(add, terms.values())


LossClass = TypeVar("LossClass", bound=type)


@dataclass(frozen=True)
class LossInfo:
    """A registered loss: its name, its class, the paper it comes from, if any (a number on huggingface.co/papers), and
    its formula in LaTeX, for model cards.

    In formulas x and y are the unit embeddings of two modalities, z those of any, s is the inverse temperature.
    """

    name: str
    cls: type
    paper: str | None
    formula: str | None = None

    @property
    def summary(self) -> str:
        """First line of the loss's docstring."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    @property
    def options(self) -> list[str]:
        """Names of the loss's fields, which are the keywords of [`get_loss`]."""
        return [field.name for field in fields(self.cls)]


_LOSSES: dict[str, LossInfo] = {}


def register_loss(
    name: str, *, paper: str | None = None, formula: str | None = None
) -> Callable[[LossClass], LossClass]:
    """Class decorator that makes a frozen dataclass available as the loss `name`.

    Other packages register theirs in a module named by an entry point, which is imported at the first look-up:

    ```toml
    [project.entry-points."hf_contrastive.losses"]
    my_losses = "my_package.losses"
    ```

    Args:
        name: Name in configs.
        paper: Identifier of the paper on https://huggingface.co/papers, where there is one.
        formula: The formula in LaTeX, without dollars, for model cards; see [`LossInfo`] for the symbols.

    Raises:
        ValueError: The name is taken.
        TypeError: The class is not a dataclass, whose fields would be the loss's options.
    """

    def register(cls: LossClass) -> LossClass:
        if name in _LOSSES:
            raise ValueError(f"The loss name {name!r} is taken by {_LOSSES[name].cls.__qualname__}. Choose another.")
        if not hasattr(cls, "__dataclass_fields__"):
            raise TypeError(
                f"A loss is a dataclass, so that its fields are its options, but {cls.__qualname__} is not."
            )
        _LOSSES[name] = LossInfo(name, cls, paper, formula)
        return cls

    return register


def list_losses() -> list[LossInfo]:
    """All losses, ours and those of installed plugins, sorted by name."""
    _load_plugins()
    return sorted(_LOSSES.values(), key=lambda info: info.name)


def inner_losses(loss: ContrastiveLoss) -> tuple[ContrastiveLoss, ...]:
    """The losses that a loss is made of, which it names by an attribute `inner_losses`; empty for most."""
    return tuple(getattr(loss, "inner_losses", ()))


def get_loss(name: str, **options: Any) -> ContrastiveLoss:
    """Build the loss called `name`.

    Raises:
        ValueError: No loss has this name, or it has no such option; the message lists those it has.

    >>> get_loss("info_nce", anchor="image")
    InfoNCE(anchor='image', symmetric=True, within=False, hard_negatives=(), keep_bytes=268435456)
    """
    losses = {info.name: info for info in list_losses()}
    if name not in losses:
        raise ValueError(f"There is no loss called {name!r}. Known losses: {', '.join(losses)}.")
    info = losses[name]
    if unknown := sorted(set(options) - set(info.options)):
        raise ValueError(
            f"The loss {name!r} has no option {', '.join(unknown)}. Its options: {', '.join(info.options)}."
        )
    loss: ContrastiveLoss = info.cls(**options)
    return loss


def read_loss(given: ContrastiveLoss | Mapping[str, Any], argument: str) -> ContrastiveLoss:
    """A loss inside another: itself, or built from the mapping that YAML has for it, `{name: ..., options: {...}}`.

    Args:
        given: The loss or the mapping.
        argument: What the caller's user calls it, for messages.

    Raises:
        ValueError: The mapping has no `name`, or more than name and options; or see [`get_loss`].
    """
    if not isinstance(given, Mapping):
        return given
    if "name" not in given or set(given) - {"name", "options"}:
        raise ValueError(
            f"`{argument}` as a mapping has the `name` of a loss and optionally `options`, but got "
            f"{', '.join(map(str, given)) or 'nothing'}."
        )
    options = given.get("options") or {}
    if not isinstance(options, Mapping):
        raise ValueError(f"`options` of the loss {given['name']!r} must be a mapping, but got {options!r}.")
    return get_loss(given["name"], **options)


@functools.cache
def _load_plugins() -> None:
    for plugin in entry_points(group=ENTRY_POINT_GROUP):
        try:
            plugin.load()
        except Exception as error:
            raise RuntimeError(
                f"The loss plugin {plugin.name!r} ({plugin.value}) failed to load: {error!r}. Mend or uninstall it."
            ) from error
