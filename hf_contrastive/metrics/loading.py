"""Find this package's `evaluate` modules by name."""

from pathlib import Path
from typing import Any


_FOLDER = Path(__file__).parent


def list_metrics() -> list[str]:
    """Names of the `evaluate` modules that come with this package."""
    return sorted(path.stem for path in _FOLDER.glob("*/*.py") if path.stem == path.parent.name)


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
    if name not in list_metrics():
        raise ValueError(f"There is no metric called {name!r}. Known metrics: {', '.join(list_metrics())}.")
    import evaluate  # It imports every pipeline of transformers; training does not need it.

    return evaluate.load(str(_FOLDER / name), **kwargs)
