"""Make `AutoConfig`, `AutoModel` and `AutoProcessor` know the package's model, once they are there."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


_AUTO = "transformers.models.auto"


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from hf_contrastive.models import configuration
    from hf_contrastive.models.configuration import MultiEncoderConfig

    AutoConfig.register(MultiEncoderConfig.model_type, MultiEncoderConfig, exist_ok=True)
    # Models need more of `transformers` than may be there in the middle of its imports, and a configuration anyway.
    configuration.BEFORE_FIRST.append(_register_model)


def _register_model() -> None:
    from transformers import AutoModel

    from hf_contrastive.models.configuration import MultiEncoderConfig
    from hf_contrastive.models.multi_encoder import MultiEncoder

    AutoModel.register(MultiEncoderConfig, MultiEncoder, exist_ok=True)


def _register_processor() -> None:
    from transformers.models.auto.processing_auto import AutoProcessor

    from hf_contrastive.models.configuration import MultiEncoderConfig
    from hf_contrastive.models.processor import MultiEncoderProcessor

    AutoProcessor.register(MultiEncoderConfig, MultiEncoderProcessor, exist_ok=True)


class RegisterOnImport(MetaPathFinder):
    """Call a function once a module has been imported by somebody, which must need no more than that module has loaded.

    Args:
        pending: The functions, by full name of the module.
    """

    def __init__(self, pending: dict[str, Callable[[], None]]) -> None:
        self.pending = pending

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        register = self.pending.pop(fullname, None)
        if register is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute: Any = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Register now what `transformers` has loaded, and the rest as soon as it does: no import of ours needs it."""
    pending = {
        f"{_AUTO}.configuration_auto": _register_config,
        f"{_AUTO}.processing_auto": _register_processor,
    }
    for name in [name for name in pending if name in sys.modules]:
        pending.pop(name)()
    if pending:
        sys.meta_path.insert(0, RegisterOnImport(pending))
