"""Find this package's `evaluate` modules by name."""

import ast
import importlib
from pathlib import Path
from typing import Any, NamedTuple


_FOLDER = Path(__file__).parent


class MetricInfo(NamedTuple):
    """An `evaluate` module of this package: its name and what it measures, in one line."""

    name: str
    summary: str


def list_metrics() -> list[MetricInfo]:
    """The `evaluate` modules that come with this package, by name."""
    scripts = sorted(path for path in _FOLDER.glob("*/*.py") if path.stem == path.parent.name)
    # Read, not imported: `evaluate` takes seconds to load.
    texts = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in scripts}
    return [MetricInfo(name, (text or "").partition("\n")[0]) for name, text in texts.items()]


def load_metric(name: str, **kwargs: Any) -> Any:
    """
    Load one of this package's `evaluate` modules.

    Args:
        name (`str`):
            One of [`list_metrics`], for example `"modality_gap"`.
        kwargs:
            Further arguments of `evaluate.load`.

    Returns:
        [`~evaluate.EvaluationModule`]: The module, with `compute`, `add_batch` and `add`.

    Raises:
        ValueError: There is no such module; the message lists those there are.
    """
    _check_known(name)
    import evaluate  # It imports every pipeline of transformers; training does not need it.

    return evaluate.load(str(_FOLDER / name), **kwargs)


def module_class(name: str) -> Any:
    """
    The class of one of this package's `evaluate` modules, whose `measure` is a function of tensors.

    Args:
        name (`str`):
            One of [`list_metrics`].
    """
    _check_known(name)
    script = importlib.import_module(f"hf_contrastive.metrics.{name}.{name}")
    return getattr(script, name.title().replace("_", ""))


def _check_known(name: str) -> None:
    known = [info.name for info in list_metrics()]
    if name not in known:
        raise ValueError(f"There is no metric called {name!r}. Known metrics: {', '.join(known)}.")
