"""Python lines for a card that run as they stand."""

import json
from collections.abc import Sequence


def usage_snippet(model: str) -> str:
    """Python lines that load a saved dual encoder and compare an image with two texts."""
    return "\n".join(
        [
            "from PIL import Image",
            "from transformers import AutoModel, AutoProcessor",
            "",
            f"model = AutoModel.from_pretrained({json.dumps(model)})",
            f"processor = AutoProcessor.from_pretrained({json.dumps(model)})",
            'image = Image.new("RGB", (64, 64), "green")  # yours: Image.open("picture.png")',
            'texts = ["a red star on grass", "a blue ring at night"]',
            'inputs = processor(images=image, text=texts, return_tensors="pt", padding=True, truncation=True)',
            "print(model(**inputs).logits_per_image.softmax(dim=-1))",
        ]
    )


def embedding_snippet(model: str) -> str:
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
            'inputs = processor(images=images, text=texts, return_tensors="pt", padding=True, truncation=True)',
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


def snippets(model: str, *, modalities: Sequence[str], zero_shot: bool, plain: bool) -> list[tuple[str, str]]:
    """What people do with a model, each with the lines for it."""
    if sorted(modalities) != ["image", "text"] or not plain:
        return [("Load it", loading_snippet(model, plain=plain))]
    found = [
        ("Compare an image with texts", usage_snippet(model)),
        ("Embed and search", embedding_snippet(model)),
    ]
    return [*found, ("Classify without training", zero_shot_snippet(model))] if zero_shot else found
