"""One ONNX file per tower: inputs of any number of rows in, unit embeddings out."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_contrastive.export.checking import check_equal
from hf_contrastive.export.errors import DifferentExportError
from hf_contrastive.models.precision import unit


# Those of the attention's sums in another order.
TOLERANCE = 1e-4
# Where Optimum and transformers.js put and look for files, and what they call them.
FOLDER = "onnx"
_STEMS = {"image": "vision", "text": "text", "audio": "audio"}
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_OPSET = 18
# A single file holds no more than 2 GB: larger weights lie beside it.
_LARGEST = 1_900_000_000


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


def called(kinds: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """
    By modality, the name of its file and of its embeddings.

    Args:
        kinds: What each modality reads, see [`Part`].
    """
    found = {}
    for modality, kind in kinds.items():
        usual = kind in _STEMS and list(kinds.values()).count(kind) == 1
        stem, prefix = (_STEMS[kind], kind) if usual else (modality, modality)
        found[modality] = (f"{stem}_model.onnx", f"{prefix}_embeds")
    return found


@torch.no_grad()
def write_onnx(
    model: Any,
    kinds: Mapping[str, str],
    examples: Mapping[str, Sequence[Mapping[str, Tensor]]],
    names: Mapping[str, str],
    folder: Path,
) -> None:
    """
    Write a file for each modality into `folder/onnx` and compare what it returns with what the model does.

    Args:
        model: The model, on the CPU, in single precision.
        kinds: What each modality reads.
        examples: Two batches of inputs for each modality, under the model's names. What differs in size between them,
            rows and tokens, may have any size.
        names: What an input of the model is called in the files, where otherwise.
        folder: Where to.

    Raises:
        ImportError: A package is not installed.
        DifferentExportError: The embeddings differ by more than 1e-4.
    """
    require_onnx()
    (folder / FOLDER).mkdir()
    for modality, (name, embeds) in called(kinds).items():
        first, second = examples[modality]
        inputs = [names.get(key, key) for key in first]
        tower = _Tower(model, modality, list(first)).eval()
        file = folder / FOLDER / name
        try:
            with _quietly():
                _write(tower, first, second, inputs, embeds, file)
            _check(tower, (first, second), inputs, file)
        except DifferentExportError:
            raise
        except Exception as error:
            # Torch cannot trace every architecture, and takes the number of rows for a constant in some.
            raise DifferentExportError(
                f"The tower of {modality!r} cannot be written as ONNX for any number of rows: "
                f"{type(error).__name__}: {str(error).rstrip('.')}. Nothing was written. Choose another format or, of a "
                "MultiEncoder, other `modalities`."
            ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says about itself, such as that torchvision is not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _check(tower: _Tower, batches: Sequence[Mapping[str, Tensor]], inputs: Sequence[str], file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = {x.name for x in session.get_inputs()}
    for given in (row for batch in batches for row in (batch, {name: x[:1] for name, x in batch.items()})):
        named = dict(zip(inputs, given.values(), strict=True))
        found = session.run(None, {name: x.numpy() for name, x in named.items() if name in wanted})[0]
        check_equal(
            f"The {tower.modality} embeddings of {file.name}",
            tower(*given.values()),
            torch.from_numpy(found),
            TOLERANCE,
        )


def _write(
    tower: nn.Module,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    inputs: Sequence[str],
    embeds: str,
    file: Path,
) -> None:
    size = sum(p.numel() * p.element_size() for p in tower.parameters())
    torch.onnx.export(
        tower,
        tuple(first.values()),
        file,
        input_names=list(inputs),
        output_names=[embeds],
        dynamic_shapes=(tuple(_sizes(first, second)),),
        opset_version=_OPSET,
        dynamo=True,
        external_data=size > _LARGEST,
        verbose=False,
    )


def _sizes(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Iterator[dict[int, Any]]:
    """For each input, the dimensions of any size: those that differ. What has the same two sizes is the same one."""
    known: dict[tuple[int, int], Any] = {}
    for x, y in zip(first.values(), second.values(), strict=True):
        found = {}
        for place, sizes in enumerate(zip(x.shape, y.shape, strict=True)):
            if sizes[0] != sizes[1]:
                found[place] = known.setdefault(
                    sizes, torch.export.Dim("batch" if place == 0 else f"size_{len(known)}")
                )
        yield found
