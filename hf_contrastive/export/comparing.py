"""Whole models compared: the embeddings of every modality, temperature and bias."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hf_contrastive.export.checking import check_equal, example_batch
from hf_contrastive.export.errors import DifferentExportError
from hf_contrastive.models.multi_encoder import MultiEncoder
from hf_contrastive.models.precision import unit
from hf_contrastive.pair_scales import BIAS, SCALE
from hf_contrastive.towers.find import base_model, find_towers


_SUFFIX = "_embeds"


def examples_of(model: Any, rows: int = 3, tokens: int = 6) -> dict[str, dict[str, Tensor]]:
    """A few examples for each modality of a dual or multi encoder, under the names of its inputs."""
    if not isinstance(model, MultiEncoder):
        return {m: example_batch(tower.encoder, rows, tokens) for m, tower in find_towers(model).items()}
    found = {}
    for modality in model.modalities:
        settings = model.config.modalities[model.config.modalities[modality].shared_with or modality]
        encoder = getattr(model, f"{model.config.modalities[modality].shared_with or modality}_model")
        if settings.tower is None:
            features = torch.randn(rows, settings.features, generator=torch.Generator().manual_seed(0))
            found[modality] = {model.input_name(modality, "features"): features}
        else:
            batch = example_batch(encoder, rows, tokens)
            found[modality] = {model.input_name(modality, own): x for own, x in batch.items()}
    return found


@torch.no_grad()
def embeds_of(model: Any, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Unit rows of each modality."""
    output = model(**{name: x for given in inputs.values() for name, x in given.items()})
    found = {name.removesuffix(_SUFFIX): x for name, x in output.items() if name.endswith(_SUFFIX)}
    return {modality: unit(x) for modality, x in found.items() if modality in inputs}


def check_same(reference: Any, found: Any, example: Any) -> None:
    """
    Compare two models of the same inputs and outputs.

    Args:
        reference: The model.
        found: What it was loaded as.
        example: Where the towers are found, to make examples for them.

    Raises:
        DifferentExportError: Embeddings, temperature or bias differ.
    """
    inputs = examples_of(example)
    expected, given = embeds_of(reference, inputs), embeds_of(found, inputs)
    for modality, rows in expected.items():
        check_equal(f"The {modality} embeddings", rows, given[modality])
    for name in (SCALE, BIAS):
        ours, theirs = (getattr(base_model(one), name, None) for one in (reference, found))
        if ours is not None and theirs is not None:
            check_equal(f"`{name}`", ours.detach().float(), theirs.detach().float())
        elif ours is not None or theirs is not None:
            raise DifferentExportError(f"`{name}` is in one of the model and its export alone. Nothing was written.")
