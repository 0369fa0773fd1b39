"""What an encoder returns, tried on two tiny examples: how to pool it, how wide that is, what it does not use."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_contrastive.models.calls import call_encoder, run_options
from hf_contrastive.models.examples import example_inputs
from hf_contrastive.models.peculiarities import peculiarities_of
from hf_contrastive.models.pooling import own_vector, pool, tokens_of
from hf_contrastive.towers.forwards import evaluation_mode


_CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")


@dataclass(frozen=True)
class Probed:
    """What is found out about a tower.

    Args:
        pooling: How its output is pooled.
        features: Width of what is pooled.
        unused: Its trainable parameters that this does not depend on.
    """

    pooling: str
    features: int
    unused: list[str]


def is_real(encoder: nn.Module) -> bool:
    """Whether an encoder holds its weights: it does not while they are loaded, nor sharded as by ZeRO-3."""
    return all(p.device.type != "meta" and not hasattr(p, "ds_id") for p in encoder.parameters())


# With a graph, which tells what parameters are used.
@torch.inference_mode(False)
@torch.enable_grad()
def probe(modality: str, encoder: PreTrainedModel, pooling: str | None) -> Probed:
    """
    Run an encoder once.

    Args:
        modality: Its name, for messages.
        encoder: An encoder of `transformers` that holds its weights.
        pooling: How to pool. By default as its architecture suggests: its own pooling where that was trained, the last
            token of causal language models, the class token of vision transformers, else the mean.

    Raises:
        ValueError: The encoder cannot be run, returns nothing that can be pooled, or not as `pooling` says.
    """
    inputs = example_inputs(encoder)
    output = _run(modality, encoder, inputs)
    possible = list(_possible(encoder, output, inputs))
    chosen = pooling or (_suggested(encoder, output, possible) if possible else None)
    if chosen not in possible:
        returned = {name: list(x.shape) if isinstance(x, Tensor) else type(x).__name__ for name, x in output.items()}
        asked = "nothing that can be pooled" if chosen is None else f"nothing that can be pooled by {chosen!r}"
        raise ValueError(
            f"The {modality} tower, a {type(encoder).__name__}, returned {asked}: {returned} for 2 examples. Possible are "
            f"the poolings {possible}."
        )
    vector = pool(chosen, output)
    return Probed(chosen, vector.shape[-1], _unused(encoder, vector))


def _run(modality: str, encoder: PreTrainedModel, inputs: dict[str, Tensor]) -> Any:
    try:
        with evaluation_mode(encoder), torch.random.fork_rng(devices=[]):
            return call_encoder(encoder, inputs, run_options(encoder))
    except Exception as error:
        shapes = {name: list(x.shape) for name, x in inputs.items()}
        raise ValueError(
            f"The {modality} tower, a {type(encoder).__name__}, was tried with {shapes} and failed: {error}"
        ) from error


def _possible(encoder: nn.Module, output: Any, inputs: dict[str, Tensor]) -> Iterator[str]:
    if own_vector(output) is not None:
        yield "pooler"
    tokens = tokens_of(output)
    if tokens is None:
        return
    text = "input_ids" in inputs
    if _has_class_token(encoder) or (text and not _is_causal(tokens)):
        yield "cls"
    yield "mean"
    if text:
        yield "last"
    yield "attention"


def _suggested(encoder: PreTrainedModel, output: Any, possible: list[str]) -> str:
    trained = peculiarities_of(encoder.config).pooling
    if trained in possible:
        return trained
    if "pooler" in possible and not _is_bert_pooler(encoder):
        return "pooler"
    tokens = tokens_of(output)
    if "last" in possible:
        return "last" if tokens is not None and _is_causal(tokens) else "mean"
    return next(name for name in ("cls", "mean", "pooler") if name in possible)


def _is_causal(tokens: Tensor) -> bool:
    """Whether the first token does not see the last, in which alone the two examples differ."""
    first, other = tokens[0, 0].float(), tokens[1, 0].float()
    return bool((first - other).norm() <= 1e-4 * first.norm())


def _has_class_token(encoder: nn.Module) -> bool:
    return any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in encoder.named_parameters())


def _is_bert_pooler(encoder: Any) -> bool:
    """Whether it is a dense layer with tanh on the first token, trained for something else or not at all."""
    pooler = getattr(encoder, "pooler", None)
    # ALBERT's has the activation beside it.
    return isinstance(pooler, nn.Linear) or (hasattr(pooler, "dense") and hasattr(pooler, "activation"))


def _unused(encoder: nn.Module, vector: Tensor) -> list[str]:
    """Trainable parameters from which no gradient path leads to `vector`."""
    used: set[int] = set()
    seen: set[Any] = set()
    stack: list[Any] = [vector.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            used.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    # Experts are used by some tokens and not by others.
    names = [name for name, p in encoder.named_parameters() if p.requires_grad and id(p) not in used]
    return [name for name in names if "expert" not in name]
