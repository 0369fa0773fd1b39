"""Models to train: any towers joined, a small CLIP from scratch, any dual encoder of the Hub."""

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from hf_contrastive.models.configuration import ModalityConfig as ModalityConfig
    from hf_contrastive.models.configuration import MultiEncoderConfig as MultiEncoderConfig
    from hf_contrastive.models.from_scratch import SmallCLIPSize as SmallCLIPSize
    from hf_contrastive.models.from_scratch import small_clip as small_clip
    from hf_contrastive.models.loading import load_dual_encoder as load_dual_encoder
    from hf_contrastive.models.multi_encoder import MultiEncoder as MultiEncoder
    from hf_contrastive.models.processor import MultiEncoderProcessor as MultiEncoderProcessor


# Where each name lives, loaded on first use: `AutoModel` registers one without paying for the others.
_MODULES = {
    "ModalityConfig": "configuration",
    "MultiEncoder": "multi_encoder",
    "MultiEncoderConfig": "configuration",
    "MultiEncoderProcessor": "processor",
    "SmallCLIPSize": "from_scratch",
    "load_dual_encoder": "loading",
    "small_clip": "from_scratch",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
