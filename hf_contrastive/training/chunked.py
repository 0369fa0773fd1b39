"""Embed a batch in chunks: the gradient of the whole batch in the memory of one chunk.

GradCache (Gao et al. 2021, https://huggingface.co/papers/2101.06983) for any number of towers. Chunks are embedded
without a graph; once the loss has told the gradients of all embeddings, each chunk is embedded again, with the random
numbers it had, and its part of the gradient sent through. All of this happens inside the backward pass of the
embeddings, so whatever scales a loss (accumulation, a gradient scaler) scales it too.

A second forward pass costs a third of a step. Chunks whose graphs fit a budget keep them and need none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_contrastive.encoder import EncoderOutput
from hf_contrastive.towers.frozen import rest_frozen
from hf_contrastive.training.frozen_outputs import Call, FrozenTowers
from hf_contrastive.training.random_state import RandomState
from hf_contrastive.training.replays import largest_difference, refuse_other_embeddings
from hf_contrastive.training.saved_tensors import SavedBytes


Encode = Callable[[Mapping[str, Any]], EncoderOutput]
Context = Callable[[], AbstractContextManager[Any]]
Replayed = Callable[[Tensor], None]

# What chunks may keep beside the first one's graph: little beside the memory of an accelerator.
KEEP_BYTES = 2**30


def encode_in_chunks(
    encode: Encode,
    chunks: Sequence[Mapping[str, Any]],
    *,
    model: nn.Module,
    keep_bytes: int = KEEP_BYTES,
    no_sync: Context = nullcontext,
    replayed: Replayed | None = None,
) -> EncoderOutput:
    """
    Embeddings of all chunks, one after the other, as if `encode` had seen them at once.

    The backward pass adds to the `grad` of parameters, as `loss.backward()` does; `torch.autograd.grad` of parameters
    does not work. Scale and bias are those of a single chunk: they must not depend on the rows.

    Args:
        encode (`Callable`):
            Embeds one chunk, through the wrapper that synchronizes gradients, if there is one.
        chunks (`list[dict]`):
            Inputs of the model, at least one.
        model (`torch.nn.Module`):
            The unwrapped model.
        keep_bytes (`int`, *optional*, defaults to 1 GiB):
            Activations that may be kept beside those of the first chunk. Chunks whose graphs fit are not embedded
            twice, and neither are frozen towers whose outputs fit. With 0, memory does not depend on the number of
            chunks, but for inputs and embeddings.
        no_sync (`Callable`, *optional*):
            Context in which gradients are not synchronized. All chunks run in it but the last to go backward.
        replayed (`Callable`, *optional*):
            Told in the backward pass, if chunks were embedded twice, how far the second embeddings are from the first,
            as a tensor of shape (). It raises nothing by itself where other processes would wait for this one.

    Raises:
        ValueError: A layer in training mode mixes the rows of a batch, or chunks have different modalities.
        RuntimeError: In the backward pass, without `replayed`: the model does not return the same the second time.
    """
    if len(chunks) == 1:
        return encode(chunks[0])
    refuse_mixed_rows(model)
    run = _Run(encode, chunks, model, no_sync, replayed or (lambda far: refuse_other_embeddings([far.item()])))
    output = run.forward(keep_bytes)
    *embeds, scale, bias = _Backward.apply(torch.zeros((), requires_grad=True), run, output)  # type: ignore[no-untyped-call]
    return EncoderOutput(dict(zip(output.embeds, embeds, strict=True)), scale, bias)


def refuse_mixed_rows(model: nn.Module) -> None:
    """Raise a ValueError if a layer in training mode computes with statistics of its batch."""
    rest_frozen(model)
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise ValueError(
                f"`{name}` is a {type(module).__name__} in training mode: what it returns for one row depends on all "
                "others, so a batch cannot be encoded in chunks. Leave out `encode_chunk_size` and "
                "`accumulate_negatives`, or use layers that treat rows alone, such as GroupNorm."
            )


class _Backward(torch.autograd.Function):
    """Hands gradients of embeddings, scale and bias to a [`_Run`]."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, run: "_Run", output: EncoderOutput) -> tuple[Tensor | None, ...]:
        ctx.run = run
        ctx.set_materialize_grads(False)
        tensors = _all(output)
        fixed = [x for x, trained in zip(tensors, run.trained, strict=True) if x is not None and not trained]
        ctx.mark_non_differentiable(*fixed)
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, None, None]:
        # Whoever keeps the embeddings, for a log or a queue, should not keep the inputs.
        run, ctx.run = ctx.run, None
        if run is None:
            raise RuntimeError(
                "Embeddings of `encode_in_chunks` can go backward once: what they were made of is freed."
            )
        run.backward(grads)
        return None, None, None


class _Again(NamedTuple):
    """A chunk to embed again: its place, its random numbers, and what frozen towers made of it."""

    place: int
    state: RandomState
    calls: list[Call]


class _Run:
    """Both passes over the chunks of one step."""

    def __init__(
        self,
        encode: Encode,
        chunks: Sequence[Mapping[str, Any]],
        model: nn.Module,
        no_sync: Context,
        replayed: Replayed,
    ) -> None:
        self.encode, self.chunks, self.model, self.no_sync, self.replayed = encode, chunks, model, no_sync, replayed
        self.devices = {p.device for p in model.parameters()}
        self.towers = FrozenTowers(model, self.devices)
        self.autocast = _autocast({"cpu"} | {device.type for device in self.devices})
        self.modalities: list[str] = []
        self.embeds: list[tuple[Tensor, ...]] = []
        self.trained: tuple[bool, ...] = ()
        self.kept: list[EncoderOutput] = []
        self.again: list[_Again] = []

    def forward(self, keep_bytes: int) -> EncoderOutput:
        """Embeddings of all chunks, without a graph. As many chunks as `keep_bytes` allow have theirs in `kept`."""
        last = len(self.chunks) - 1
        saved = SavedBytes(self.model, self.chunks[0])
        with self.no_sync(), saved, self.towers.recorded() as calls:
            first = self.encode(self.chunks[0])
        self.trained = tuple(x is not None and x.requires_grad for x in _all(first))
        of_frozen = last * self.towers.keep_those_without_graph(calls)
        if of_frozen > keep_bytes:
            of_frozen = 0
            self.towers.clear()
        calls.clear()
        # Without a trained tower there are no graphs, and nothing to do again.
        has_graph = any(x.requires_grad for x in first.embeds.values())
        num_kept = 1 + (keep_bytes - of_frozen) // max(1, saved.total()) if has_graph else last + 1

        self._remember(first, kept=True)
        for place in range(1, last + 1):
            if place < num_kept:
                # Kept graphs go backward in one pass, whose gradients are synchronized if the last forward's are.
                with nullcontext() if place == last else self.no_sync():
                    self._remember(self.encode(self.chunks[place]), kept=True)
            else:
                state = RandomState.now(self.devices)
                with torch.no_grad(), self.no_sync(), self.towers.recorded() as calls:
                    self._remember(self.encode(self.chunks[place]), kept=False)
                self.again.append(_Again(place, state, calls))
        with torch.no_grad():
            joined = [torch.cat(parts) for parts in zip(*self.embeds, strict=True)]
            bias = None if first.logit_bias is None else first.logit_bias.clone()
            return EncoderOutput(dict(zip(first.embeds, joined, strict=True)), first.logit_scale.clone(), bias)

    def backward(self, grads: Sequence[Tensor | None]) -> None:
        """Send the gradients of all embeddings, of the scale and of the bias through the model."""
        *of_embeds, of_scale, of_bias = grads
        counts = [len(embeds[0]) for embeds in self.embeds]
        by_modality = [[None] * len(counts) if g is None else torch.split(g, counts) for g in of_embeds]
        by_chunk = list(zip(*by_modality, strict=True))

        # Scale and bias go with the last chunk, whose gradients are synchronized.
        final = self.again[-1].place if self.again else len(self.kept) - 1
        grads_of = [
            (*g, of_scale, of_bias) if place == final else (*g, None, None) for place, g in enumerate(by_chunk)
        ]
        with self.no_sync() if self.again else nullcontext():
            _send([(output, grads_of[place]) for place, output in enumerate(self.kept)])
        differences = []
        while self.again:
            place, state, calls = self.again.pop(0)
            with nullcontext() if place == final else self.no_sync():
                with torch.enable_grad(), self.autocast(), state.again(), self.towers.replayed(calls):
                    output = self.encode(self.chunks[place])
                differences.append(largest_difference(_embeds(output), self.embeds[place]))
                _send([(output, grads_of[place])])
        if differences:
            self.replayed(torch.stack(differences).max())

    def _remember(self, output: EncoderOutput, *, kept: bool) -> None:
        self.modalities = self.modalities or list(output.embeds)
        if list(output.embeds) != self.modalities:
            raise ValueError(
                f"All chunks and micro-batches of an update must have the same modalities, but one has {self.modalities} and "
                f"one {list(output.embeds)}. Give all of them every modality, those that lack one marked, or leave "
                "out `accumulate_negatives`."
            )
        self.embeds.append(tuple(x.detach() for x in _embeds(output)))
        if kept:
            self.kept.append(output)


def _embeds(output: EncoderOutput) -> tuple[Tensor, ...]:
    return tuple(output.embeds.values())


def _all(output: EncoderOutput) -> tuple[Tensor | None, ...]:
    return (*output.embeds.values(), output.logit_scale, output.logit_bias)


def _send(outputs: Sequence[tuple[EncoderOutput, Sequence[Tensor | None]]]) -> None:
    pairs = [(x, g) for output, grads in outputs for x, g in zip(_all(output), grads, strict=True)]
    pairs = [(x, g) for x, g in pairs if x is not None and x.requires_grad and g is not None]
    if pairs:
        tensors, grads = zip(*pairs, strict=True)
        torch.autograd.backward(tensors, grads)


def _autocast(kinds: set[str]) -> Context:
    """A context with the automatic mixed precision of now."""
    now = [(k, torch.get_autocast_dtype(k), torch.is_autocast_enabled(k)) for k in sorted(kinds)]

    @contextmanager
    def again() -> Iterator[None]:
        with ExitStack() as stack:
            for kind, dtype, enabled in now:
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled))
            yield

    return again
