"""Parameters that FSDP2 or DeepSpeed have cut into parts: shapes that can be cut, reading and bounding them whole."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


@contextmanager
def loaded_whole() -> Iterator[None]:
    """
    Inside, and in functions that this decorates, `transformers` loads models with whole parameters under ZeRO-3 as well.

    It would have DeepSpeed cut them at once, which fails at CLIP's scalar and leaves nothing to find a tower's pooling
    with. Training cuts them when it begins.
    """
    from transformers.integrations import deepspeed

    kept = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = kept


def scalars_to_vectors(model: nn.Module) -> list[str]:
    """
    Give every parameter of shape () the shape (1,), and name those that had it.

    Neither `fully_shard` nor DeepSpeed takes a parameter without a dimension, and CLIP's `logit_scale` has none. In the
    model's arithmetic the two shapes are alike. [`vectors_to_scalars`] undoes it in what is saved.
    """
    vectors: dict[nn.Parameter, nn.Parameter] = {}
    names = []
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 0:
                if parameter not in vectors:
                    vector = nn.Parameter(parameter.detach().reshape(1), requires_grad=parameter.requires_grad)
                    vectors[parameter] = vector
                setattr(module, name, vectors[parameter])
                names.append(f"{path}.{name}" if path else name)
    return names


def without_one_embedding(model: Any) -> None:
    """Let a model that has no single input embedding say so: Accelerate asks for it under FSDP2, to cut it by itself.

    CLIP raises, and SigLIP names one that is inside a module to be cut as a whole, which would be cut twice.
    """
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    names = getattr(model, "_no_split_modules", None) or ()
    units = [module for module in model.modules() if type(module).__name__ in names]
    if embedding is None or any(embedding is module for unit in units for module in unit.modules()):
        model.get_input_embeddings = _none


def _none() -> None:
    return None


def vectors_to_scalars(state_dict: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """The weights with those of `names` in shape (), as the model's class has them."""
    return {name: x.reshape(()) if name in names else x for name, x in state_dict.items()}


@contextmanager
def whole(*parameters: nn.Parameter, write: bool = False) -> Iterator[None]:
    """Inside this context a parameter that ZeRO-3 has partitioned is whole, on all processes.

    Every process must enter. What is written to it lasts only with `write`.
    """
    parts = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not parts:
        yield
        return
    from deepspeed import zero

    with zero.GatheredParameters(parts, modifier_rank=0 if write else None):
        yield


def full_value(parameter: nn.Parameter) -> Tensor:
    """A copy of the parameter, whole and without a graph. Every process must ask for it."""
    with whole(parameter):
        value = parameter.detach()
        return joined(value) if isinstance(value, DTensor) else value.clone()


def joined(value: Tensor) -> Tensor:
    """A tensor whole, if FSDP2 has cut it, without a graph. Every process must ask for it."""
    if not isinstance(value, DTensor):
        return value
    # Parts that are offloaded to the CPU cannot be exchanged there.
    here: Any = value.detach().to(value.device_mesh.device_type)
    found: Tensor = here.full_tensor()
    return found


def exact_value(parameter: nn.Parameter) -> Tensor:
    """A parameter whole and in its own precision, with a gradient: the mean over processes. All must use it alike.

    Inside a forward pass FSDP2 shows parameters in the precision of that pass, which may be half.
    """
    return _Exact.apply(parameter) if isinstance(parameter, DTensor) else parameter  # type: ignore[no-untyped-call]


class _Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor) -> Tensor:
        ctx.parameter = parameter.detach()
        return joined(parameter)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return cut_like(grad / dist.get_world_size(), ctx.parameter)


def cut_like(value: Tensor, other: Tensor) -> Tensor:
    """A whole value, the same on all processes, on the device of another tensor and cut into parts as that is."""
    if isinstance(other, DTensor):
        value = value.to(other.device_mesh.device_type)
        value = distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)
    return value.to(other.device)


def local_part(value: Tensor) -> Tensor:
    """What this process has of a tensor: all of it, unless FSDP2 has cut it."""
    return value.to_local() if isinstance(value, DTensor) else value


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 has cut the parameters of a model."""
    return isinstance(model, FSDPModule)


def reshard(model: nn.Module, *, recurse: bool = True) -> None:
    """Have FSDP2 drop the whole copies that a forward pass without a backward pass leaves in place of the parameters.

    They are in the precision of that pass. Without `recurse`, only those of the model itself, not of its layers.
    """
    for module in model.modules() if recurse else [model]:
        if isinstance(module, FSDPModule):
            module.reshard()


def without_rounded_outputs(plugin: Any) -> None:
    """Have FSDP2 leave what a model returns in its own precision.

    Accelerate sets that of mixed precision, and embeddings and temperature of half precision are off in the third digit.
    """
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)


@torch.no_grad()
def clamp_max(parameter: nn.Parameter, bound: float) -> None:
    """Keep a parameter at or below `bound`, in the optimizer's copy too. Every process must call it."""
    if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):
        from deepspeed import utils

        # The optimizer steps from a copy of its own, which would go on beyond the bound. DeepSpeed 0.19 cannot set the
        # whole copy of a parameter with fewer elements than processes under ZeRO-3, but each process its part.
        kind = "local" if hasattr(parameter, "ds_id") else "full"
        get, put = (getattr(utils, f"safe_{verb}_{kind}_fp32_param") for verb in ("get", "set"))
        exact = get(parameter) if parameter.requires_grad else None
        if exact is not None:
            put(parameter, exact.clamp(max=bound))
    with whole(parameter, write=True):
        parameter.clamp_(max=bound)


@torch.no_grad()
def fill(parameter: nn.Parameter, value: float) -> None:
    """Give a parameter that no optimizer steps, or has not stepped yet, a value. Every process must call it."""
    with whole(parameter, write=True):
        parameter.fill_(value)


def refuse_another_launch(*, num_processes: int, fsdp_version: int | None, deepspeed: bool) -> None:
    """
    Raise unless Accelerate does what the launcher asked for.

    Args:
        num_processes (`int`): Processes that train together.
        fsdp_version (`int`, *optional*): Version of FSDP, where it is on.
        deepspeed (`bool`): Whether DeepSpeed is on.

    Raises:
        ValueError: The processes train apart, Accelerate leaves sharding out, as it does on CPU, or takes FSDP 1.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > num_processes:
        raise ValueError(
            f"The launcher started {started} processes, but each would train alone (it sees {num_processes}). On CPU, "
            "train with `use_cpu=True`; else look whether PyTorch sees your accelerators."
        )
    for name, on in (("FSDP", fsdp_version is not None), ("DEEPSPEED", deepspeed)):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" and not on:
            raise ValueError(
                f"The launcher asks for sharding (ACCELERATE_USE_{name}=true), but Accelerate would train without it on "
                "this device. On CPU take recipes/accelerate/cpu_two_processes.yaml."
            )
    if fsdp_version not in (None, 2):
        raise ValueError(
            f"FSDP version {fsdp_version} flattens parameters, so the temperature cannot be bounded or read. Set "
            "`fsdp_version: 2`, as recipes/accelerate/fsdp2.yaml does."
        )
