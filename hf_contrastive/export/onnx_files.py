"""One ONNX file per tower: inputs of any number of rows in, unit embeddings out."""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_contrastive.export.checking import check_equal
from hf_contrastive.export.errors import DifferentExportError
from hf_contrastive.models.precision import unit


# Those of the attention's sums in another order.
TOLERANCE = 1e-4
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_OPSET = 18


class _Tower(nn.Module):
    """Embeddings of one modality from tensors by position, as ONNX has them."""

    def __init__(self, model: Any, modality: str, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.modality, self.names = model, modality, tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        features = getattr(self.model, f"get_{self.modality}_features")(**given)
        return unit(getattr(features, "pooler_output", features))


def require_onnx() -> None:
    """
    Raise an error if a package that writes or runs ONNX is not there.

    Raises:
        ImportError: With the names of those that lack.
    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise ImportError(f"ONNX files need the packages {missing}: pip install 'hf-contrastive[onnx]'.")


@torch.no_grad()
def write_onnx(model: Any, inputs: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
    """
    Write `<modality>.onnx` for each modality and compare what it returns, for these inputs and for others.

    Args:
        model: The model, on the CPU, in single precision.
        inputs: An example of the inputs of each modality, under the model's names.
        folder: Where to.

    Raises:
        ImportError: A package is not installed.
        DifferentExportError: The embeddings differ by more than 1e-4.
    """
    require_onnx()
    for modality, given in inputs.items():
        tower = _Tower(model, modality, list(given)).eval()
        file = folder / f"{modality}.onnx"
        try:
            with warnings.catch_warnings():
                # Of the exporter about itself.
                warnings.simplefilter("ignore")
                _write(tower, given, file)
            _check(tower, given, file)
        except DifferentExportError:
            raise
        except Exception as error:
            # Torch cannot trace every architecture, and takes the number of rows for a constant in some.
            raise DifferentExportError(
                f"The tower of {modality!r} cannot be written as ONNX for any number of rows: "
                f"{type(error).__name__}: {error} Nothing was written."
            ) from error


def _check(tower: _Tower, given: Mapping[str, Tensor], file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = {x.name for x in session.get_inputs()}
    for rows in (given, {name: _other_size(x) for name, x in given.items()}):
        found = session.run(None, {name: x.numpy() for name, x in rows.items() if name in wanted})[0]
        check_equal(
            f"The {tower.modality} embeddings of {file.name}",
            tower(*rows.values()),
            torch.from_numpy(found),
            TOLERANCE,
        )


def _write(tower: nn.Module, given: Mapping[str, Tensor], file: Path) -> None:
    rows, tokens = torch.export.Dim("batch"), torch.export.Dim("sequence")
    sizes = tuple({0: rows, 1: tokens} if _is_text(x) else {0: rows} for x in given.values())
    torch.onnx.export(
        tower,
        tuple(given.values()),
        file,
        input_names=list(given),
        output_names=["embeds"],
        dynamic_shapes=(sizes,),
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _is_text(x: Tensor) -> bool:
    return x.dim() == 2 and x.dtype == torch.long


def _other_size(x: Tensor) -> Tensor:
    """More rows, and of texts fewer tokens from the end."""
    x = torch.cat([x, x, x[:1]])
    return x[:, 1:] if _is_text(x) else x
