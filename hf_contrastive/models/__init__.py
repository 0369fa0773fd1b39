"""Models to train: any towers joined, a small CLIP from scratch, any dual encoder of the Hub."""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from hf_contrastive.models.configuration import ModalityConfig as ModalityConfig
    from hf_contrastive.models.configuration import MultiEncoderConfig as MultiEncoderConfig
    from hf_contrastive.models.loading import load_dual_encoder as load_dual_encoder
    from hf_contrastive.models.multi_encoder import MultiEncoder as MultiEncoder
    from hf_contrastive.models.processor import MultiEncoderProcessor as MultiEncoderProcessor
    from hf_contrastive.models.small_clip import SmallCLIPSize as SmallCLIPSize
    from hf_contrastive.models.small_clip import small_clip as small_clip


# Where each name lives, loaded on first use: `AutoModel` registers one without paying for the others.
_MODULES = {
    "ModalityConfig": "configuration",
    "MultiEncoder": "multi_encoder",
    "MultiEncoderConfig": "configuration",
    "MultiEncoderProcessor": "processor",
    "SmallCLIPSize": "small_clip",
    "load_dual_encoder": "loading",
    "small_clip": "small_clip",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    # The function `small_clip` is called as its module, which importing has put here.
    globals()[name] = value
    return value
