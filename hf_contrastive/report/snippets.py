"""Python lines for a card that run as they stand."""

import json
from collections.abc import Mapping

from hf_contrastive.report.facts import TrainingFacts


_TEXTS = '["a red star on grass", "a blue ring at night"]'
# Values of each kind, for the modality that is called "{name}".
_VALUES = {
    "text": _TEXTS,
    "image": '[Image.new("RGB", (64, 64), "green")]',
    "audio": '[{{"array": [0.0, 0.1] * 8000, "sampling_rate": model.processor.sampling_rate("{name}")}}]',
    "embedding": 'list(torch.randn(2, model.config.modalities["{name}"].features))',
}
_IMPORTS = {"image": "from PIL import Image", "embedding": "import torch"}


def usage_snippet(model: str, *, model_type: str = "clip") -> str:
    """Python lines that load a saved dual encoder and compare an image with two texts."""
    return "\n".join(
        [
            "from PIL import Image",
            "from transformers import AutoModel, AutoProcessor",
            "",
            f"model = AutoModel.from_pretrained({json.dumps(model)})",
            f"processor = AutoProcessor.from_pretrained({json.dumps(model)})",
            *_comparison(model_type),
        ]
    )


def embedding_snippet(model: str, *, model_type: str = "clip") -> str:
    """Lines that embed images and texts and rank the images for each text."""
    return "\n".join(
        [
            "import torch",
            "from PIL import Image",
            "from transformers import AutoModel, AutoProcessor",
            "",
            f"model = AutoModel.from_pretrained({json.dumps(model)}).eval()",
            f"processor = AutoProcessor.from_pretrained({json.dumps(model)})",
            'images = [Image.new("RGB", (64, 64), color) for color in ("red", "green", "blue")]',
            'texts = ["something red", "something blue"]',
            f"inputs = processor(images=images, text=texts, {_text_options(model_type)})",
            "with torch.no_grad():",
            "    outputs = model(**inputs)",
            "cosines = outputs.text_embeds @ outputs.image_embeds.T  # of unit vectors",
            "print(cosines.argsort(dim=1, descending=True))",
        ]
    )


def zero_shot_snippet(model: str) -> str:
    """Lines that classify an image by names of classes."""
    return "\n".join(
        [
            "from PIL import Image",
            "from transformers import pipeline",
            "",
            f'classify = pipeline("zero-shot-image-classification", model={json.dumps(model)})',
            'image = Image.new("RGB", (64, 64), "green")',
            'print(classify(image, candidate_labels=["red", "green"], hypothesis_template="a {} picture"))',
        ]
    )


def loading_snippet(model: str, *, plain: bool) -> str:
    """Lines that load any saved encoder with its processor."""
    ours = [] if plain else ["import hf_contrastive  # registers the model's class"]
    return "\n".join(
        [
            *ours,
            "from transformers import AutoModel, AutoProcessor",
            "",
            f"model = AutoModel.from_pretrained({json.dumps(model)})",
            f"processor = AutoProcessor.from_pretrained({json.dumps(model)})",
            "print(type(model).__name__, sum(p.numel() for p in model.parameters()))",
        ]
    )


def encoding_snippet(model: str, kinds: Mapping[str, str]) -> str:
    """
    Lines that embed raw values of each modality of a [`MultiEncoder`] and compare the first two.

    Args:
        model: Hub id or folder.
        kinds: By modality, `"text"`, `"image"`, `"audio"` or `"embedding"`.
    """
    lines = _loading(model, kinds, "AutoModel")
    for name, kind in kinds.items():
        call = f"encode_{name}(" if name == kind else f"encode({json.dumps(name)}, "
        lines.append(f"{name}_embeds = model.{call}{_VALUES[kind].format(name=name)})")
    first, *others = [f"{name}_embeds" for name in kinds]
    return "\n".join([*lines, f"print(model.similarity({first}, {others[0] if others else first}))"])


def processor_snippet(model: str, kinds: Mapping[str, str]) -> str:
    """Lines that make the inputs of all modalities with the processor, and their embeddings in one call."""
    lines = _loading(model, kinds, "AutoModel, AutoProcessor")
    lines.append(f"processor = AutoProcessor.from_pretrained({json.dumps(model)})")
    values = {name: _VALUES[kind].format(name=name) for name, kind in kinds.items()}
    lines += [f"{name} = {value}" for name, value in values.items()]
    given = [f"{'images' if name == 'image' else name}={name}" for name in kinds]
    lines.append(f"inputs = processor({', '.join(given)})")
    return "\n".join([*lines, "print({name: x.shape for name, x in model(**inputs).items()})"])


def adapter_snippet(model: str, base: str | None, *, model_type: str | None = None) -> str:
    """
    Lines that put an adapter on its base model and, with the `model_type` of a CLIP-like one, compare an image with texts.

    Args:
        model: Hub id or folder of the adapter.
        base: That of the base model, None if nobody else has it.
        model_type: Type of the base model, None for one whose inputs are not an image and texts.
    """
    lines = [
        "import hf_contrastive  # pip install 'hf-contrastive[peft]'",
        *(["from PIL import Image"] if model_type else []),
        f"from transformers import AutoModel{', AutoProcessor' if model_type else ''}",
        "",
        f"base = AutoModel.from_pretrained({json.dumps(base or 'base')})"
        + ("" if base else "  # the folder of the model that it was trained on"),
        f"model = hf_contrastive.load_adapter(base, {json.dumps(model)})  # with the temperature it was trained to",
    ]
    if model_type is None:
        return "\n".join([*lines, "print(type(model).__name__, sum(p.numel() for p in model.parameters()))"])
    lines.append(f"processor = AutoProcessor.from_pretrained({json.dumps(model)})")
    return "\n".join([*lines, *_comparison(model_type)])


def snippets(model: str, facts: TrainingFacts, *, zero_shot: bool) -> list[tuple[str, str]]:
    """What people do with a model, each with the lines for it; none for a class that only its author has."""
    is_image_text = sorted(facts.modalities) == ["image", "text"]
    if facts.adapter:
        base = facts.hub_base_models[0] if len(facts.hub_base_models) == 1 else None
        shown = facts.model_type if is_image_text and not facts.kinds else None
        return [("Load it", adapter_snippet(model, base, model_type=shown))]
    if facts.kinds:
        return [
            ("Embed and compare", encoding_snippet(model, facts.kinds)),
            ("With its processor", processor_snippet(model, facts.kinds)),
        ]
    if not facts.plain:
        return [("Load it", loading_snippet(model, plain=False))] if facts.is_joined else []
    if not is_image_text:
        return [("Load it", loading_snippet(model, plain=True))]
    found = [
        ("Compare an image with texts", usage_snippet(model, model_type=facts.model_type)),
        ("Embed and search", embedding_snippet(model, model_type=facts.model_type)),
    ]
    return [*found, ("Classify without training", zero_shot_snippet(model))] if zero_shot else found


def _comparison(model_type: str) -> list[str]:
    logits = "logits_per_image.sigmoid()" if _is_siglip(model_type) else "logits_per_image.softmax(dim=-1)"
    return [
        'image = Image.new("RGB", (64, 64), "green")  # yours: Image.open("picture.png")',
        f"texts = {_TEXTS}",
        f"inputs = processor(images=image, text=texts, {_text_options(model_type)})",
        f"print(model(**inputs).{logits})",
    ]


def _loading(model: str, kinds: Mapping[str, str], names: str) -> list[str]:
    imports = sorted({_IMPORTS[kind] for kind in kinds.values() if kind in _IMPORTS}, reverse=True)
    return [
        "import hf_contrastive  # pip install hf-contrastive",
        *imports,
        f"from transformers import {names}",
        "",
        f"model = AutoModel.from_pretrained({json.dumps(model)})",
    ]


def _text_options(model_type: str) -> str:
    # SigLIP is trained, and its pipeline runs, with texts of one length.
    padding = '"max_length"' if _is_siglip(model_type) else "True"
    return f'return_tensors="pt", padding={padding}, truncation=True'


def _is_siglip(model_type: str) -> bool:
    return model_type.startswith("siglip")
