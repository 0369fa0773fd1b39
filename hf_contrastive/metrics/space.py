"""The page of a module as a Space: embeddings from files in, values out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def measure_files(module: Any, files: Sequence[str | None], options: str) -> dict[str, float]:
    """
    Values of a module for arrays in files.

    Args:
        module ([`~evaluate.EvaluationModule`]):
            A module of this package.
        files (`list[str]`):
            A `.npy` file for each of the module's inputs, in order.
        options (`str`):
            Further arguments of `compute`, as a JSON object; may be empty.
    """
    if missing := [name for name, file in zip(module.inputs, files, strict=True) if file is None]:
        raise ValueError(f"Give a .npy file of {' and of '.join(missing)}.")
    arrays = {name: np.load(str(file), allow_pickle=False) for name, file in zip(module.inputs, files, strict=True)}
    further = json.loads(options or "{}")
    if not isinstance(further, dict):
        raise ValueError(f'Options must be a JSON object, for example {{"normalize": false}}, but got {options!r}.')
    return module.compute(**arrays, **further)


def build(module: Any) -> Any:
    """
    A page to try a module on files, with its card below. Needs `gradio`.

    Args:
        module ([`~evaluate.EvaluationModule`]):
            A module of this package; the card is the `README.md` of the current folder.
    """
    import gradio

    def measure(*fields: str) -> dict[str, float]:
        try:
            return measure_files(module, fields[:-1], fields[-1])
        except (TypeError, ValueError) as error:
            raise gradio.Error(str(error)) from error

    card = Path("README.md")
    files = [gradio.File(label=f"{name} (.npy)", file_types=[".npy"], type="filepath") for name in module.inputs]
    return gradio.Interface(
        fn=measure,
        inputs=[*files, gradio.Textbox(label="Options, as JSON", placeholder="{}")],
        outputs=gradio.JSON(label="Values"),
        title=module.name,
        description=module.description,
        article=card.read_text(encoding="utf-8").rpartition("---\n")[2] if card.is_file() else None,
        flagging_mode="never",
    )
