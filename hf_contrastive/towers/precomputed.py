"""Towers that are not run, because their output comes with the batch."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from hf_contrastive.towers.find import Tower, base_model, find_tower
from hf_contrastive.towers.forwards import replaced_forward


# Input of a model that holds the pooled output of a tower, of shape (batch, width), followed by its modality.
CACHED = "cached_"


@contextmanager
def precomputed_towers(model: nn.Module, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Inside this context, the model's towers with a `cached_<modality>` input return it instead of running.

    Args:
        model: A model with towers, not wrapped for distributed training.
        inputs: Inputs of the model; the context gives those that remain.

    Raises:
        ValueError: The model has no such tower, or trains it, so that what was computed before is not its output.
    """
    given = {name.removeprefix(CACHED): x for name, x in inputs.items() if name.startswith(CACHED)}
    # A model whose modalities may be absent must be told that one is there, and takes these inputs itself.
    takes_cached = getattr(base_model(model), "reads_cached_towers", False)
    with ExitStack() as stack:
        for modality, pooled in given.items():
            tower = find_tower(model, modality, f"{CACHED}{modality}")
            if any(p.requires_grad for p in tower.encoder.parameters()):
                raise ValueError(
                    f"The batch has `{CACHED}{modality}`, but the {modality} tower is trained: its output changes. Freeze "
                    f"it with `freeze_towers=['{modality}']`, or leave the column out."
                )
            if not takes_cached:
                stack.enter_context(_returning(tower, pooled))
        yield {name: x for name, x in inputs.items() if takes_cached or not name.startswith(CACHED)}


@contextmanager
def _returning(tower: Tower, pooled: Tensor) -> Iterator[None]:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    encoder = tower.encoder
    after = tower.projection if tower.projection is not None else encoder
    dtypes = [p.dtype for p in after.parameters() if p.is_floating_point()]
    pooled = pooled.to(dtypes[0]) if dtypes else pooled

    def forward(*_: Any, **__: Any) -> Any:
        if not isinstance(encoder, PreTrainedModel):
            return pooled
        # Models read the pooled output or, such as ALIGN, the first token.
        return BaseModelOutputWithPooling(last_hidden_state=pooled.unsqueeze(1), pooler_output=pooled)

    with replaced_forward(encoder, forward):
        yield
