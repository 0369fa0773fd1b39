"""See any Hugging Face dual encoder as: inputs in, one unit embedding per modality and a logit scale out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hf_contrastive.hard_negatives import join_rows, split_rows
from hf_contrastive.pair_scales import BIAS, SCALE
from hf_contrastive.sharded_parameters import exact_value, is_sharded, reshard
from hf_contrastive.towers.forwards import replaced_forward as replaced_forward
from hf_contrastive.towers.precomputed import precomputed_towers


# How `transformers` names joint-space embeddings in every dual encoder: CLIP, SigLIP, CLAP, X-CLIP, ...
SUFFIX = "_embeds"


class EncoderOutput(NamedTuple):
    """What a contrastive loss needs from a model.

    Dimension key: b = rows of this process, d = embedding width.

    Args:
        embeds: Unit-norm embeddings by modality, in single precision even if the model computes in half. Hard negatives
            are among them, see [`hf_contrastive.hard_negatives`].
        logit_scale: Inverse temperature, already exponentiated; one number, or one per pair of modalities in
            alphabetical order.
        logit_bias: Additive bias of the logits, where the model has one; one number, or one per pair.
    """

    embeds: dict[str, Float[Tensor, "b d"]]
    logit_scale: Float[Tensor, "*P"]
    logit_bias: Float[Tensor, "*Q"] | None = None


@contextmanager
def contrastive_forward(model: nn.Module, *, modalities: Sequence[str] | None = None) -> Iterator[None]:
    """Inside this context, calling `model`, or a wrapper around it, returns an [`EncoderOutput`].

    Scale and bias are read inside `forward`, where DDP expects parameters to be used; those that FSDP2 has cut, before,
    for inside they are in the precision of the forward pass. Outside the context the model is untouched, so saving,
    pushing and `from_pretrained` are its own.

    Args:
        model: The unwrapped model. It returns `<modality>_embeds` and has a `logit_scale` in log space.
        modalities: Embeddings to keep, for models that return more. By default all.

    Raises:
        ValueError: The model has no `logit_scale`, or returns fewer than two of the modalities.
    """
    if getattr(model, SCALE, None) is None:
        raise ValueError(
            f"{type(model).__name__} has no `logit_scale`, the log inverse temperature that contrastive losses use. "
            "Add it to the model as an `nn.Parameter` of shape (1,), or with one entry per pair of modalities."
        )
    native_forward, sharded = model.forward, _sharded_scalars(model)

    def forward(**inputs: Any) -> EncoderOutput:
        with precomputed_towers(model, inputs) as remaining:
            joined, own_rows = join_rows(remaining)
            output = native_forward(**joined)
        embeds = split_rows(_embeds(output, modalities, type(model).__name__), own_rows)
        scale, bias = (_scalar(sharded.get(name, getattr(model, name, None))) for name in (SCALE, BIAS))
        scale = scale.exp()
        if isinstance(bias, nn.Parameter):
            # Not the parameter itself: DDP would count one that is in an output twice.
            bias = bias * 1.0
        return EncoderOutput(
            _tied(embeds, [z for z in (scale, bias) if z is not None and z.requires_grad]), scale, bias
        )

    with replaced_forward(model, forward):
        yield


def _sharded_scalars(model: nn.Module) -> dict[str, Tensor]:
    if not is_sharded(model):
        return {}
    reshard(model, recurse=False)
    return {name: exact_value(x) for name in (SCALE, BIAS) if (x := getattr(model, name, None)) is not None}


def _scalar(value: Tensor | None) -> Any:
    if value is None:
        return None
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    # CLIP's parameters have shape (), SigLIP's (1,).
    return value.squeeze() if value.dim() else value


def _tied(embeds: dict[str, Tensor], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """The same embeddings, of which those of one modality have a zero gradient for `parameters`.

    DDP without a search for unused parameters waits for the gradient of each, a bias that the loss does not use as well.
    """
    first = next(iter(embeds))
    if not (parameters and dist.is_initialized() and embeds[first].requires_grad):
        return embeds
    return embeds | {first: _Tied.apply(embeds[first], *parameters)}  # type: ignore[no-untyped-call]


class _Tied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *(torch.zeros_like(z) for z in ctx.saved_tensors)


def named_embeds(output: Mapping[str, Any]) -> dict[str, Tensor]:
    """Matrices of embeddings in a model's output, by modality; what else is called so is passed over."""
    return {
        name.removesuffix(SUFFIX): value
        for name, value in output.items()
        if name.endswith(SUFFIX) and isinstance(value, Tensor) and value.dim() == 2
    }


def _embeds(output: Mapping[str, Any], modalities: Sequence[str] | None, model: str) -> dict[str, Tensor]:
    found = named_embeds(output)
    wanted = sorted(found) if modalities is None else modalities
    if missing := sorted(set(wanted) - set(found)):
        raise ValueError(f"`modalities` asks for {missing}, but {model} returned {sorted(found)}.")
    if len(wanted) < 2:
        raise ValueError(
            f"A contrastive loss needs two or more modalities, but {model} returned {list(output)}. It should return "
            f"one `<modality>{SUFFIX}` tensor of shape (batch, width) per modality; check that the batch holds the "
            "inputs of every tower."
        )
    if len({found[m].shape[1] for m in wanted}) > 1:
        shapes = {m: list(found[m].shape) for m in wanted}
        raise ValueError(f"The embeddings of all modalities must have one width, but {model} returned {shapes}.")
    # At least single precision: cosines of half-precision rows are off in their third digit.
    return {m: F.normalize(found[m].to(torch.promote_types(found[m].dtype, torch.float32)), dim=1) for m in wanted}
