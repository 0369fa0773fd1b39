"""Names of weights in files, which may be others than those in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion


@contextmanager
def loading_saved_names(model: nn.Module) -> Iterator[None]:
    """
    Inside this context `model.load_state_dict` takes weights under the names that `save_pretrained` gives them.

    `transformers` renames weights of ViT, DINOv2, Swin and others when it loads and saves a model. Its Trainer (5.23) reads
    checkpoints without that, and goes on with whatever such weights were, after a warning.

    Args:
        model (`torch.nn.Module`):
            The model, not wrapped for distributed training.

    Raises:
        ValueError: Weights are not only renamed but joined or split.
    """
    names = _saved_names(model) if isinstance(model, PreTrainedModel) else {}

    def rename(_: nn.Module, state_dict: dict[str, Any], *__: Any) -> None:
        # All at once: a name in files may be another weight's in memory.
        state_dict |= {own: state_dict.pop(saved) for saved, own in names.items() if saved in state_dict}

    handle = model.register_load_state_dict_pre_hook(rename)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    try:
        yield
    finally:
        handle.remove()


def _saved_names(model: PreTrainedModel) -> dict[str, str]:
    """By name in a file, the name in memory, of weights where the two differ."""
    state: dict[str, Tensor] = dict(model.state_dict())
    saved = revert_weight_conversion(model, state)
    own = {id(x): name for name, x in state.items()}
    if changed := [name for name, x in saved.items() if id(x) not in own]:
        raise ValueError(
            f"`transformers` saves {changed[0]!r} and {len(changed) - 1} more weights of this model in other parts than it has "
            "in memory, which its Trainer cannot undo. Load the checkpoint by `from_pretrained`, without its optimizer."
        )
    return {name: own[id(x)] for name, x in saved.items() if own[id(x)] != name}
