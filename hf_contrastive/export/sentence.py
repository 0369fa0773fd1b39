"""A text tower, and a plain dual encoder, as `SentenceTransformer` reads them: files alone, without that library."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, CLIPTextModel
from transformers.utils import logging

from hf_contrastive.export.errors import InexpressibleError
from hf_contrastive.export.parts import Part, is_automatic
from hf_contrastive.export.processors import name_tokenizer
from hf_contrastive.models.peculiarities import peculiarities_of
from hf_contrastive.models.pooling import pool
from hf_contrastive.report.towers import longest_text


# Names that all versions of the library since 2.0 can import.
_MODULES = "sentence_transformers.models"
_ACTIVATIONS = {
    "gelu": "torch.nn.modules.activation.GELU",
    "tanh": "torch.nn.modules.activation.Tanh",
    "identity": "torch.nn.modules.linear.Identity",
}
_POOLINGS = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}


def dense_layers(part: Part) -> tuple[str, list[tuple[Tensor, Tensor | None, str]]]:
    """
    A text tower's pooling and what follows it, as the library has them.

    Returns:
        `"cls"`, `"mean"` or `"last"`, and the layers: weight, bias, activation.

    Raises:
        InexpressibleError: The library has no such modules.
    """
    encoder, where = part.encoder, f"the tower of {part.modality!r}"
    if peculiarities_of(encoder.config).is_padded:
        raise InexpressibleError(
            f"SentenceTransformer pads texts to the longest, but {where}, a {type(encoder).__name__}, reads texts "
            "of one length."
        )
    if part.kind != "text" or not is_automatic(encoder):
        raise InexpressibleError(
            f"SentenceTransformer reads texts with what `AutoModel` makes, but {where} is a {type(encoder).__name__}."
        )
    if part.head_kind == "attention":
        raise InexpressibleError(f"SentenceTransformer has no learned attention, but {where} is pooled by it.")
    pooling, layers = part.pooling, []
    if pooling == "pooler":
        pooler: Any = getattr(encoder, "pooler", None)
        if isinstance(encoder, CLIPTextModel):
            pooling = "last"  # the end token, which is the last that is no padding
        elif isinstance(getattr(pooler, "dense", None), nn.Linear) and isinstance(pooler.activation, nn.Tanh):
            pooling = "cls"
            layers.append((pooler.dense.weight, pooler.dense.bias, "tanh"))
        else:
            raise InexpressibleError(f"SentenceTransformer cannot pool as {type(encoder).__name__} does itself.")
    head: Any = part.head
    if part.head_kind == "mlp":
        layers += [(head[0].weight, head[0].bias, "gelu"), (head[2].weight, None, "identity")]
    elif part.head_kind == "linear":
        layers.append((head.weight, None, "identity"))
    return pooling, layers


def write_text_tower(part: Part, tokenizer: Any, folder: Path) -> None:
    """Write a text tower, see [`dense_layers`]; the tokenizer says how long texts may be."""
    pooling, layers = dense_layers(part)
    part.encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    name_tokenizer(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [(f"{place}_Dense", "Dense") for place, _ in enumerate(layers, 2)]
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    _write(folder / "sentence_bert_config.json", {"max_seq_length": _longest(part, tokenizer), "do_lower_case": False})
    modes = {f"pooling_mode_{name}": mode == pooling for mode, name in _POOLINGS.items()}
    # Older versions expect all of them.
    modes |= {f"pooling_mode_{name}": False for name in ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")}
    width = {"word_embedding_dimension": part.encoder.config.hidden_size}
    _write(folder / "1_Pooling" / "config.json", width | modes | {"include_prompt": True})
    for place, (weight, bias, activation) in enumerate(layers, 2):
        place_of = folder / f"{place}_Dense"
        sizes = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias is not None}
        _write(place_of / "config.json", sizes | {"activation_function": _ACTIVATIONS[activation]})
        state = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
        save_file({name: x.detach().cpu().contiguous() for name, x in state.items()}, place_of / "model.safetensors")
    write_modules(folder, modules)


def write_pair(model: Any, folder: Path, padding: dict[str, Any]) -> None:
    """Let `SentenceTransformer` read a plain dual encoder that is in the folder already, texts and pictures alike."""
    if model.config.model_type == "clip":
        write_modules(folder, [("", "CLIPModel"), ("1_Normalize", "Normalize")])
        return
    # Needs version 5.4 or newer of the library.
    output = "pooler_output"
    methods = {m: {"method": f"get_{m}_features", "method_output_name": output} for m in ("image", "text")}
    settings: dict[str, Any] = {"transformer_task": "feature-extraction", "modality_config": methods}
    settings |= {"module_output_name": "sentence_embedding"} | (
        {"processing_kwargs": {"text": padding}} if padding else {}
    )
    _write(folder / "sentence_bert_config.json", settings)
    write_modules(folder, [("", "Transformer"), ("1_Normalize", "Normalize")])


def write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    """Write `modules.json` from path and class of each module, and what goes with it."""
    entries = [
        {"idx": place, "name": str(place), "path": path, "type": f"{_MODULES}.{name}"}
        for place, (path, name) in enumerate(modules)
    ]
    for path, name in modules:
        if name == "Normalize":
            # A folder that a repository keeps: Git has none without files.
            _write(folder / path / "config.json", {})
    _write(folder / "modules.json", entries)
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


@torch.no_grad()
def read_text_tower(folder: Path, texts: list[str]) -> Tensor:
    """Unit rows of texts from the files of [`write_text_tower`], by `transformers` and torch alone."""
    verbosity = logging.get_verbosity()
    # A pooler that was not written, as nothing reads it, would be reported as missing.
    logging.set_verbosity_error()
    try:
        model: Any = AutoModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", use_safetensors=True
        )
    finally:
        logging.set_verbosity(verbosity)
    longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    modes = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    pooling = next(mode for mode, name in _POOLINGS.items() if modes[f"pooling_mode_{name}"])
    rows = pool(pooling, model.eval()(**inputs), inputs["attention_mask"])
    for path in sorted(folder.glob("*_Dense"), key=lambda path: int(path.name.partition("_")[0])):
        state = {name: x.float() for name, x in load_file(path / "model.safetensors").items()}
        rows = F.linear(rows, state["linear.weight"], state.get("linear.bias"))
        kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["activation_function"].rpartition(".")[2]
        rows = getattr(nn, kind)()(rows)
    return F.normalize(rows, dim=-1)


def _longest(part: Part, tokenizer: Any) -> int:
    """Tokens of the longest text that tokenizer and encoder take."""
    positions = longest_text(part.encoder.config)
    return int(min([tokenizer.model_max_length, *([] if positions is None else [positions])]))


def _write(file: Path, content: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
