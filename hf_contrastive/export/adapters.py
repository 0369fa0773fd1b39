"""Adapters written as adapters, or merged into the model that they were trained on."""

import copy
from pathlib import Path
from typing import Any

from hf_contrastive.export.checking import check_equal, reference_of
from hf_contrastive.export.comparing import check_same, embeds_of, examples_of
from hf_contrastive.towers.find import base_model
from hf_contrastive.training.adapters import load_adapter, save_scalars, scalars


def write_adapter(model: Any, folder: Path) -> None:
    """
    Write the adapter of a `peft` model with temperature and bias, and compare it, loaded on the base, with the model.

    Raises:
        DifferentExportError: Embeddings or temperature differ.
    """
    model.save_pretrained(folder)
    save_scalars(model, folder)
    (folder / "README.md").unlink(missing_ok=True)
    reference = _reference(model)
    bare = _reference(model).unload()
    found = load_adapter(bare, folder).eval()
    check_same(reference, found, base_model(reference))


def merged(model: Any) -> Any:
    """
    A copy of the model below `peft`, with the adapter in its weights.

    Raises:
        DifferentExportError: Embeddings of the merged model differ.
    """
    made = copy.deepcopy(model).merge_and_unload()
    # (W + BA) x is rounded in other places than W x + B(A x).
    reference, tolerance = _reference(model), 1e-5 if made.dtype.itemsize >= 4 else 1e-2
    plain = base_model(reference)
    inputs = examples_of(plain)
    expected, found = embeds_of(reference, inputs), embeds_of(reference_of(made), inputs)
    for modality, rows in expected.items():
        check_equal(f"The {modality} embeddings of the merged model", rows, found[modality], tolerance)
    for (name, ours), theirs in zip(scalars(model).items(), scalars(made).values(), strict=True):
        check_equal(f"`{name}`", ours.detach().cpu(), theirs.detach().cpu())
    return made.eval()


def _reference(model: Any) -> Any:
    made = copy.deepcopy(model).float().cpu().eval()
    base: Any = base_model(made)
    base.set_attn_implementation("eager")
    return made
