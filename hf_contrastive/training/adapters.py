"""Adapters of `peft` on dual encoders: temperature and bias are trained, saved and loaded with them."""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import cached_file, logging

from hf_contrastive.hub.untrusted import check_adapter, checked_revision
from hf_contrastive.pair_scales import BIAS, SCALE
from hf_contrastive.towers.find import base_model


logger = logging.get_logger(__name__)

SCALARS_FILE = "contrastive_scalars.safetensors"


def add_adapter(model: nn.Module, peft_config: Any) -> nn.Module:
    """
    Wrap a model in an adapter; temperature and bias are trained as before.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model, whose other weights are frozen.
        peft_config (`peft.PeftConfig`):
            What to adapt, for instance a `LoraConfig`. Projections that should be trained whole go to its
            `modules_to_save`.

    Raises:
        ImportError: `peft` is not installed.
        ValueError: The model has an adapter already.
    """
    _require_peft()
    from peft import get_peft_model

    if is_adapted(model):
        raise ValueError("The model is wrapped by `peft` already: give either that or `peft_config`.")
    trained = {name: p.requires_grad for name, p in scalars(model).items()}
    adapted: nn.Module = get_peft_model(model, peft_config)
    for name, p in scalars(adapted).items():
        p.requires_grad_(trained[name])
    return adapted


def load_adapter(model: PreTrainedModel, name: str | Path, *, is_trainable: bool = False, **kwargs: Any) -> nn.Module:
    """
    A model with an adapter that [`ContrastiveTrainer`] has saved or pushed, its temperature and bias included.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model that the adapter was trained on. Its temperature and bias are replaced.
        name (`str` or `Path`):
            Folder or Hub id of the adapter.
        is_trainable (`bool`, *optional*, defaults to `False`):
            Whether adapter, temperature and bias are trained further.
        kwargs:
            Where to find it: `revision`, `token`, `subfolder`, `cache_dir`.

    Raises:
        ImportError: `peft` is not installed.
        ValueError: The folder holds other scalars than the model has.
        UntrustedError: Its configuration names what would be loaded or imported from elsewhere, or its weights are pickles.
    """
    _require_peft()
    from peft import PeftModel

    kwargs = kwargs | checked_revision(check_adapter(name, **kwargs))
    adapted: nn.Module = PeftModel.from_pretrained(model, str(name), is_trainable=is_trainable, **kwargs)
    file = cached_file(str(name), SCALARS_FILE, _raise_exceptions_for_missing_entries=False, **kwargs)
    if file is None:
        logger.warning(f"{name} has no {SCALARS_FILE}: temperature and bias stay those of the base model.")
    else:
        load_scalars(adapted, Path(file))
    for p in scalars(adapted).values():
        p.requires_grad_(is_trainable)
    return adapted


def is_adapted(model: nn.Module) -> bool:
    """Whether a model is wrapped by `peft`."""
    return hasattr(model, "get_base_model")


def scalars(model: nn.Module) -> dict[str, nn.Parameter]:
    """Temperature and, where there is one, bias of a model, by name."""
    found = {name: getattr(base_model(model), name, None) for name in (SCALE, BIAS)}
    return {name: value for name, value in found.items() if isinstance(value, nn.Parameter)}


def save_scalars(model: nn.Module, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Write temperature and bias beside an adapter: from `state_dict`, where the model's own parameters are sharded."""
    gathered = {name.rpartition(".")[2]: value for name, value in (state_dict or {}).items()}
    values = {name: gathered.get(name, p).detach().cpu().contiguous().clone() for name, p in scalars(model).items()}
    save_file(values, folder / SCALARS_FILE)


def load_scalars(model: nn.Module, file: Path) -> None:
    """
    Read temperature and bias of a model from a file.

    Raises:
        ValueError: The file holds others than the model has.
        FileNotFoundError: There is no such file, as in adapters that were saved without this package.
    """
    if not file.exists():
        raise FileNotFoundError(
            f"There is no {file}, where temperature and bias lie beside an adapter. Save the adapter with this package's "
            "trainer, or copy them there."
        )
    found, wanted = load_file(file), scalars(model)
    if {name: x.numel() for name, x in found.items()} != {name: p.numel() for name, p in wanted.items()}:
        raise ValueError(f"{file} holds {sorted(found)}, but the model has {sorted(wanted)}.")
    with torch.no_grad():
        for name, p in wanted.items():
            p.copy_(found[name].reshape(p.shape))


@contextmanager
def card_kept(folder: Path) -> Iterator[None]:
    """Save into a folder inside this context, and its card stays: `peft` replaces tags and base model in any it finds."""
    card = folder / "README.md"
    old = card.read_bytes() if card.is_file() else None
    yield
    if old is not None:
        card.write_bytes(old)


def _require_peft() -> None:
    if importlib.util.find_spec("peft") is None:
        raise ImportError("Adapters need the package `peft`: pip install 'hf-contrastive[peft]'.")
