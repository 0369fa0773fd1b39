"""Tiny models and data, made on the spot: no test needs the network."""

import importlib
import io
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
    set_seed,
)

from hf_contrastive.data import PairDataset
from hf_contrastive.metrics import embedding_module
from hf_contrastive.models import SmallCLIPSize, small_clip
from tests.hub.fixtures import hub as hub
from tests.hub.fixtures import module_hub as module_hub


if sys.version_info < (3, 11):
    # The last jaxtyping for Python 3.10 wraps functions in spite of `@no_type_check`, see embedding_module.py.
    plain = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("jaxtyping")]
    with mock.patch.object(sys, "meta_path", plain):
        importlib.reload(embedding_module)


LAYERS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {"image_size": 8, "patch_size": 4}
TEXT = {"vocab_size": 99, "max_position_embeddings": 8}
COLORS = ("red", "green", "blue", "white", "black", "orange", "purple", "yellow")
TINY = SmallCLIPSize(
    image_size=16, patch_size=8, width=32, vision_layers=1, text_layers=1, projection_dim=8, max_tokens=16
)


def tiny_clip(dropout: float = 0.0) -> CLIPModel:
    layers = LAYERS | {"attention_dropout": dropout}
    # CLIP reads the embedding of the end token, here the last of the vocabulary.
    text = layers | TEXT | {"bos_token_id": 0, "eos_token_id": 98, "pad_token_id": 1}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=layers | IMAGE, projection_dim=12))


def tiny_siglip() -> SiglipModel:
    return SiglipModel(SiglipConfig(text_config=LAYERS | TEXT, vision_config=LAYERS | IMAGE))


def tiny_dual_encoder() -> VisionTextDualEncoderModel:
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**LAYERS, **IMAGE), BertConfig(**LAYERS, **TEXT), projection_dim=12
    )
    return VisionTextDualEncoderModel(config)


@pytest.fixture(params=[tiny_clip, tiny_siglip, tiny_dual_encoder], ids=["clip", "siglip", "vision_text"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    set_seed(0)
    return request.param()


@pytest.fixture
def clip() -> CLIPModel:
    set_seed(0)
    return tiny_clip()


def make_inputs(num_rows: int) -> dict[str, torch.Tensor]:
    """Model inputs for any of the tiny models."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 98, (num_rows, 6), generator=generator)
    ids[:, -1] = 98
    return {
        "pixel_values": torch.randn(num_rows, 3, 8, 8, generator=generator),
        "input_ids": ids,
        "attention_mask": torch.ones(num_rows, 6, dtype=torch.long),
    }


def make_dataset(num_rows: int = 16) -> Dataset:
    """Model inputs as a dataset, one row per example."""
    columns = {name: value.tolist() for name, value in make_inputs(num_rows).items()}
    return Dataset.from_dict(columns).with_format("torch")


@pytest.fixture
def dataset() -> Dataset:
    return make_dataset()


def picture(color: str, seed: int = 0) -> bytes:
    """A PNG of 16 x 16 noisy pixels around a color."""
    noise = np.random.default_rng(seed).integers(-20, 20, (16, 16, 3))
    pixels = np.clip(np.asarray(PILImage.new("RGB", (16, 16), color)) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_pairs(num_rows: int = 24, *, many_captions: bool = False) -> Dataset:
    """Colored pictures with captions, in the columns `image` and `caption`."""
    names = [COLORS[row % len(COLORS)] for row in range(num_rows)]
    texts = [f"a {name} picture number {row}" for row, name in enumerate(names)]
    captions = [[text, f"something {name}"] for text, name in zip(texts, names, strict=True)]
    images = [{"bytes": picture(name, row), "path": None} for row, name in enumerate(names)]
    kind = Features({"image": Image(), "caption": Value("string")}) if not many_captions else None
    columns = {"image": images, "caption": captions if many_captions else texts}
    return (
        Dataset.from_dict(columns, features=kind) if kind else Dataset.from_dict(columns).cast_column("image", Image())
    )


@pytest.fixture
def pairs() -> Dataset:
    return make_pairs()


@pytest.fixture(scope="session")
def saved_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny CLIP and its processor, as `from_pretrained` reads it."""
    set_seed(0)
    folder = tmp_path_factory.mktemp("tiny-clip")
    model, processor = small_clip(PairDataset(make_pairs()).captions, TINY)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
